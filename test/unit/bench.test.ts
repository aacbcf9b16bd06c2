/** The pure parts of the benches: statistics, classes, groups, the text of graphs, tables and plots. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildModel } from 'random-pruning';
import { describe, expect, it } from 'vitest';
import { graphText } from '../../src/bench/case.js';
import { classMeans, type LayerTiming, layerBytes, type PassTiming } from '../../src/bench/layers.js';
import { markdownTable, plots, resultsText, trainTable } from '../../src/bench/report.js';
import { type BenchResults, machineName, mergeResults, storedResults } from '../../src/bench/results.js';
import { geometricMean, spread } from '../../src/bench/statistics.js';
import { barChart, linearTicks, lineChart, logTicks } from '../../src/bench/svg.js';
import { compare, type Entry } from '../../src/bench/train.js';

const pass: PassTiming = {
  ms: 1,
  ms_quartiles: [0.9, 1.1],
  onednn_ms: 2,
  onednn_quartiles: [1.9, 2.1],
  gflops: 50,
  bound: 'compute',
  of_bound: 0.5,
  speedup: 2,
};

function timing(layer: string, shape: number[], sparsity: number, speedup: number): LayerTiming {
  return {
    layer,
    shape,
    images: 128,
    sparsity,
    nnz: 100,
    threads: 2,
    choice: 'forward=2x8/24',
    kernel: 'sparse_conv2d_avx512',
    bytes: 3000,
    forward: pass,
    dgrad: pass,
    wgrad: pass,
    speedup,
    onednn: '2.6.3',
  };
}

function entry(name: string, kind: Entry['kind'], median: number, more: Partial<Entry> = {}): Entry {
  return {
    name,
    kind,
    precision: 'fp32',
    version: `${kind} 1`,
    milliseconds: { median, low: median - 1, high: median + 1, count: 5 },
    imagesPerSecond: 1000 / median,
    peakBytes: 2e8,
    losses: [2.3, 2.2],
    ...more,
  };
}

describe('spread', () => {
  it('gives median and quartiles, in any order', () => {
    expect(spread([5, 1, 3, 2, 4])).toEqual({ median: 3, low: 2, high: 4, count: 5 });
  });
  it('interpolates between neighbours', () => {
    expect(spread([1, 2])).toEqual({ median: 1.5, low: 1.25, high: 1.75, count: 2 });
  });
  it('refuses no values', () => expect(() => spread([])).toThrow(RangeError));
});

it('geometric mean of a doubling and a halving is 1', () => {
  expect(geometricMean([2, 0.5])).toBeCloseTo(1, 12);
  expect(geometricMean([])).toBeNaN();
});

describe('classMeans', () => {
  const wide = timing('vgg.3x3.256', [256, 256, 8, 8, 3, 3, 1, 1], 0.9, 4);
  const wideStrided = timing('wrn.3x3.256.s2', [256, 256, 56, 56, 3, 3, 2, 1], 0.9, 1);
  const narrow = timing('resnet.3x3.32', [32, 32, 16, 16, 3, 3, 1, 1], 0.9, 3);
  const stem = timing('resnet.stem', [3, 16, 32, 32, 3, 3, 1, 1], 0.9, 1.5);
  const linear = timing('wrn.fc', [2048, 1000, 1, 1, 1, 1, 1, 0], 0.9, 1.5);
  const point = timing('wrn.1x1.512.28', [512, 512, 28, 28, 1, 1, 1, 0], 0.5, 1.2);
  const means = classMeans([wide, wideStrided, narrow, stem, linear, point]);
  const of = (name: string, sparsity: number) =>
    means.filter((row) => row.name === name && row.sparsity === sparsity);

  it('puts strided layers in their class, and gives stride 1 by itself', () => {
    expect(of('3x3, at least 128 channels', 0.9)[0]).toMatchObject({
      layers: 2,
      mean: 2,
      lowest: 0.5,
      goal: 5.8,
    });
    expect(of('— of these, stride 1', 0.9).map(({ layers, mean }) => [layers, mean])).toEqual([
      [1, expect.closeTo(4, 9)],
      [1, expect.closeTo(3, 9)],
    ]);
  });
  it('knows stems and linear layers as others, 1x1 convolutions as 1x1', () => {
    expect(of('others', 0.9)[0]).toMatchObject({ layers: 2, goal: null });
    expect(of('1x1', 0.5)[0]).toMatchObject({ layers: 1, goal: 1.15 });
    expect(of('1x1', 0.9)).toEqual([]);
  });
});

describe('compare', () => {
  const dense = entry('ours dense', 'ours', 100);
  const sparse = entry('ours erk 0.9', 'ours', 20, { ratio: 'erk', density: 0.1, flopsRatio: 0.18 });
  const slow = entry('PyTorch nchw', 'pytorch', 200);
  const fast = entry('oneDNN primitives', 'onednn', 80);
  const bf16 = entry('PyTorch bf16', 'pytorch', 10, { precision: 'bf16' });

  it('measures against the fastest dense fp32 peer', () => {
    const compared = compare(sparse, [dense, slow, fast, bf16, sparse]);
    expect(compared.timeRatio).toBeCloseTo(0.2, 12);
    expect(compared.speedup).toBeCloseTo(4, 12);
    expect(compared.speedups).toEqual({
      'ours dense': 5,
      'PyTorch nchw': 10,
      'oneDNN primitives': 4,
      'PyTorch bf16': 0.5,
    });
  });
  it('falls back on our own dense step without peers', () => {
    expect(compare(sparse, [dense, sparse]).speedup).toBeCloseTo(5, 12);
  });
  it('leaves dense entries as they are', () => expect(compare(dense, [dense, fast])).toBe(dense));
});

describe('graphText', () => {
  it('has a line a node: op, inputs, attributes, epsilon, shape', () => {
    const { graph } = buildModel('resnet20');
    const lines = graphText(graph, 128).trimEnd().split('\n');
    expect(lines).toHaveLength(graph.nodes.length + 1);
    expect(lines.slice(0, 5)).toEqual([
      'batch 128',
      'input | | 0 | 3 32 32',
      'conv2d 0 | 16 3 3 1 1 | 0 | 16 32 32',
      'batch_norm 1 | | 0.00001 | 16 32 32',
      'relu 2 | | 0 | 16 32 32',
    ]);
    expect(lines.at(-1)).toMatch(/^linear \d+ \| 10 1 \| 0 \| 10 1 1$/);
  });
  it('lists parameters in the order in which nodes use them, as the oneDNN program reads weights', () => {
    for (const arch of ['resnet20', 'vgg16', 'wrn50']) {
      const { graph } = buildModel(arch);
      const nodes = graph.params.map(({ node }) => node);
      expect(nodes).toEqual([...nodes].sort((a, b) => a - b));
    }
  });
});

describe('ticks', () => {
  it('span the values', () => {
    expect(logTicks(0.6, 17)).toEqual([0.5, 1, 2, 5, 10, 20]);
    expect(linearTicks(430)).toEqual([0, 100, 200, 300, 400, 500]);
  });
});

describe('charts', () => {
  it('are XML with a mark a value', () => {
    const bars = ['a', 'b <c>'].map((name) => ({ name, value: 2, low: 1, high: 3, group: name }));
    const svg = barChart({ title: 'T & U', yLabel: 'ms', bars });
    expect(svg).toContain('T &amp; U');
    expect(svg).toContain('b &lt;c&gt;');
    expect(svg.match(/<rect/g)).toHaveLength(1 + 2 + 2); // background, bars, legend
    const line = lineChart({
      title: 'T',
      xLabel: 'x',
      yLabel: 'y',
      xs: [0, 0.5, 0.9],
      series: [{ name: 's', ys: [1, null, 4] }],
    });
    expect(line.match(/<circle/g)).toHaveLength(2);
    for (const text of [svg, line]) expect(text).not.toContain('NaN');
  });
  it('of nothing are empty frames', () => {
    expect(barChart({ title: 'T', yLabel: 'y', bars: [] })).toContain('</svg>');
  });
});

describe('results', () => {
  const dense = entry('ours dense', 'ours', 100);
  const group = [dense, entry('oneDNN primitives', 'onednn', 80)];
  const sparse = entry('ours erk 0.9', 'ours', 20, { ratio: 'erk', density: 0.1, flopsRatio: 0.18 });
  const results: BenchResults = {
    version: 1,
    date: '2026-01-02T03:04:05.000Z',
    machine: {
      cpu: 'AMD EPYC 9R14 (96-Core)',
      cores: 2,
      memoryBytes: 2.4e10,
      platform: 'Linux',
      isa: 'avx512',
      node: 'v20',
      package: '0.1.0',
      git: null,
    },
    commands: { train: 'npm run bench', layers: 'npm run bench' },
    ceilings: {
      isa: 'avx512',
      threads: 2,
      fma_gflops: 230,
      load_fma_gflops: 204,
      read_gbs: 40,
      copy_gbs: 30,
    },
    layers: [timing('vgg.3x3.256', [256, 256, 8, 8, 3, 3, 1, 1], 0.9, 4)],
    train: [
      {
        arch: 'resnet20',
        batchSize: 128,
        threads: 2,
        missing: ['PyTorch: sudo apt-get install python3-torch'],
        resident: true,
        entries: [...group, compare(sparse, [...group, sparse])],
      },
    ],
  };

  it('show the FLOPs ratio beside the time ratio and the speed-up over the fastest peer', () => {
    const row = trainTable(results.train!)
      .split('\n')
      .find((line) => line.includes('ours erk 0.9'));
    expect(row).toBe(
      '| resnet20, batch 128 | ours erk 0.9 | 20 (19–21) | 50 | 200 MB | 0.180 | 0.200 | 4.00× | 5 |',
    );
  });
  it('name the machine, its ceilings, versions, missing peers, and every plot', () => {
    const charts = plots(results);
    const name = machineName(results.machine);
    expect([...charts.keys()]).toEqual([`${name}-layers-speedup.svg`, `${name}-train-resnet20.svg`]);
    const text = resultsText([results], 'results');
    for (const part of [
      'AMD EPYC 9R14',
      '204 GFLOP/s with one operand',
      'onednn 1',
      'Not measured: PyTorch: sudo apt-get install python3-torch',
      `](results/${name}-layers-speedup.svg)`,
      `](results/${name}-train-resnet20.svg)`,
      '| 3x3, at least 128 channels | 0.9 | 1 | 4.00× | 5.80× | 100 % |',
    ]) {
      expect(text).toContain(part);
    }
    expect(text).not.toContain('undefined');
  });
  it('of another section join those of the day', () => {
    const { train: _, layers: __, ...rest } = results;
    const merged = mergeResults(results, {
      ...rest,
      commands: { scaling: 'x' },
      scaling: { ratio: 'erk', density: 0.1, points: [] },
    });
    expect(merged.train).toBe(results.train);
    expect(Object.keys(merged.commands)).toEqual(['train', 'layers', 'scaling']);
  });
  it('replace what was measured again, and keep the rest', () => {
    const [first, ...others] = results.train!;
    const again = { ...first!, threads: 7 };
    const other = { ...first!, arch: 'other' };
    const layer = timing('new', [16, 16, 8, 8, 3, 3, 1, 1], 0.5, 3);
    const merged = mergeResults(results, {
      ...results,
      commands: { train: 'again' },
      train: [again, other],
      layers: [layer],
    });
    expect(merged.train).toEqual([again, ...others, other]);
    expect(merged.layers).toEqual([...results.layers!, layer]);
    const lower = { ...results.layers![0]!, sparsity: 0.01 };
    expect(mergeResults(merged, { ...results, layers: [lower] }).layers).toEqual([lower, ...merged.layers!]);
    expect(merged.commands.train).toBe(`${results.commands.train} · again`);
    expect(mergeResults(merged, { ...results, commands: { train: 'again' } }).commands.train).toBe(
      merged.commands.train,
    );
  });
  it('lie in a file a day, processor and kernels; a page shows the newest of each machine', () => {
    expect(machineName(results.machine)).toBe('amd-epyc-9r14-96-core-avx512');
    const folder = mkdtempSync(join(tmpdir(), 'rp-bench-'));
    const on = (date: string, isa: string): BenchResults => ({
      ...results,
      date,
      machine: { ...results.machine, isa },
    });
    const stored = [on('2026-01-02', 'avx512'), on('2026-01-03', 'avx2'), on('2026-01-04', 'avx2')];
    for (const one of stored) writeFileSync(storedResults(folder, one).file, JSON.stringify(one));
    expect(storedResults(folder, on('2026-01-04T10:00', 'avx2'))).toEqual({
      file: join(folder, '2026-01-04-amd-epyc-9r14-96-core-avx2.json'),
      before: stored[2],
      others: [stored[0]],
    });
    expect(storedResults(folder, on('2026-01-05', 'avx512'))).toMatchObject({
      before: null,
      others: [stored[2]],
    });
    const text = resultsText(stored.slice(0, 2), 'results');
    expect(text).toContain('## AMD EPYC 9R14 (96-Core), avx512');
    expect(text).toContain('## AMD EPYC 9R14 (96-Core), avx2');
    rmSync(folder, { recursive: true });
  });
  it('align numbers to the right', () => {
    expect(markdownTable(['a', 'b'], [['x', 1]])).toBe('| a | b |\n| --- | --: |\n| x | 1 |\n');
  });
});

describe('bytes of sparse layers', () => {
  it('are counted a kept weight, less a bit a weight, dense ones left out', () => {
    const shape = [16, 16, 8, 8, 3, 3, 1, 1]; // 2,304 weights: 288 bytes of bits
    const of = (sparsity: number, nnz: number, bytes: number) => ({
      ...timing('x', shape, sparsity, 2),
      nnz,
      bytes,
    });
    const bytes = layerBytes([of(0, 2304, 0), of(0.5, 1000, 28288), of(0.5, 2000, 60288), of(0.9, 10, 1288)]);
    expect(bytes).toEqual([
      { sparsity: 0.5, perNonzero: (28000 + 60000) / 3000, worst: 30 },
      { sparsity: 0.9, perNonzero: 100, worst: null },
    ]);
  });
});

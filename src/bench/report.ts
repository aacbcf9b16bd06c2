/** RESULTS.md and the plots, from the results alone. A ratio of FLOPs always stands beside the ratio of times. */
import { sparsityOf } from '../config.js';
import { bytesText } from '../units.js';
import { type Ceilings, classMeans, type LayerTiming, layerBytes, type PassTiming } from './layers.js';
import { type BenchResults, machineName } from './results.js';
import type { Spread } from './statistics.js';
import { barChart, lineChart } from './svg.js';
import type { Entry, TrainBench } from './train.js';

type Cell = string | number;

/** A Markdown table; columns of numbers to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const right = head.map(
    (_, i) => rows.length > 0 && rows.every((row) => /^[-\d.,× %–]+$/.test(String(row[i]))),
  );
  return [head, right.map((r) => (r ? '--:' : '---')), ...rows]
    .map((row) => `| ${row.join(' | ')} |\n`)
    .join('');
}

/** Three significant digits. */
export const short = (value: number) =>
  Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
const times = (value: number) => `${value.toFixed(2)}×`;
const percent = (value: number) => `${(100 * value).toFixed(0)} %`;
const span = ({ median, low, high }: Spread) => `${short(median)} (${short(low)}–${short(high)})`;

const passes = ['forward', 'dgrad', 'wgrad'] as const;
/** Of a layer whose gradients are one kernel's, what both reach stands in dgrad's place. */
const passOf = (t: LayerTiming, pass: (typeof passes)[number]) =>
  pass === 'dgrad' ? (t.dgrad ?? t.backward) : t[pass];

const ceilingCell = ({ bound, of_bound }: Pick<PassTiming, 'bound' | 'of_bound'>) =>
  `${percent(of_bound)}${bound === 'memory' ? ' m' : ''}`;

function passCells({
  ms,
  ms_quartiles: [low, high],
  onednn_ms,
  speedup,
  gflops,
  bound,
  of_bound,
}: PassTiming): Cell[] {
  return [
    `${short(ms)} (${short(low)}–${short(high)})`,
    short(onednn_ms),
    times(speedup),
    short(gflops),
    ceilingCell({ bound, of_bound }),
  ];
}

function classTable(layers: readonly LayerTiming[]): string {
  const rows = classMeans(layers).map(({ name, sparsity, layers: count, mean, lowest, ofCeilings, goal }) => [
    name,
    sparsity,
    count,
    times(mean),
    goal === null ? '' : times(goal),
    percent(lowest),
    percent(ofCeilings),
  ]);
  return markdownTable(
    ['class', 'sparsity', 'layers', 'geometric mean', 'goal', 'lowest ÷ mean', 'of the ceilings'],
    rows,
  );
}

function layerTables(layers: readonly LayerTiming[], ceilings: Ceilings | undefined): string {
  const head = ['layer', 'sparsity', 'step'];
  const summary = layers.map((t) => [
    t.layer,
    t.sparsity,
    times(t.speedup),
    ...passes.map((pass) => {
      const timing = passOf(t, pass);
      return timing ? `${times(timing.speedup)}${timing === t.backward ? ' both' : ''}` : '';
    }),
    ...passes.map((pass) => {
      const timing = passOf(t, pass);
      return timing ? ceilingCell(timing) : '';
    }),
  ]);
  const details = ([...passes, 'backward'] as const).flatMap((pass) => {
    const rows = layers.flatMap((t) => {
      const timing = t[pass];
      return timing ? [[t.layer, t.sparsity, t.nnz, ...passCells(timing)]] : [];
    });
    if (rows.length === 0) return [];
    return [
      `\n#### ${pass === 'backward' ? 'dgrad and wgrad by one kernel' : pass}\n\n`,
      markdownTable(
        ['layer', 'sparsity', 'kept', 'ms', 'oneDNN ms', 'speed-up', 'useful GFLOP/s', 'of its ceiling'],
        rows,
      ),
    ];
  });
  const kernels = layers.map((t) => [t.layer, t.sparsity, `\`${t.kernel}\``, `\`${t.choice}\``]);
  return [
    'Speed-up over oneDNN, and the share of its ceiling that each pass reaches. The ceiling is the longer of two times:\n',
    'for the multiply-adds of kept weights whose input lies inside the map, at the load-FMA rate (dense: the FMA rate);\n',
    'or (m) for its two activations, once from and to memory. No pass can reach both at once. Where one kernel computes\n',
    'both gradients ("both"), it loads an operand for two multiply-adds, and has the ceilings of the three tensors; it stands\n',
    "beside oneDNN's two passes. ",
    ceilings?.beside_passes
      ? 'Both rates are measured\nright before and after each pass: neighbours of a virtual machine slow a pass and its ceiling alike.\n\n'
      : 'Both rates are the\nbest, above: what slows the machine for a while lowers the share.\n\n',
    markdownTable([...head, ...passes, ...passes.map((pass) => `${pass}, of its ceiling`)], summary),
    '\n<details><summary>Milliseconds (medians, quartiles) and kernels</summary>\n',
    ...details,
    '\n#### Kernel and tiles chosen\n\n',
    markdownTable(['layer', 'sparsity', 'kernel', 'choice'], kernels),
    '\n</details>\n',
  ].join('');
}

function entryRow(arch: string, entry: Entry): Cell[] {
  return [
    arch,
    entry.name,
    span(entry.milliseconds),
    short(entry.imagesPerSecond),
    entry.peakBytes === null ? '?' : bytesText(entry.peakBytes),
    entry.flopsRatio === undefined ? '1' : entry.flopsRatio.toFixed(3),
    entry.timeRatio === undefined ? '' : entry.timeRatio.toFixed(3),
    entry.speedup === undefined ? '' : times(entry.speedup),
    entry.milliseconds.count,
  ];
}

/** A row a contestant. */
export function trainTable(benches: readonly TrainBench[]): string {
  return markdownTable(
    [
      'network',
      'contestant',
      'ms a step (quartiles)',
      'images/s',
      'peak memory',
      'FLOPs ÷ dense',
      'time ÷ our dense',
      'over the fastest dense fp32 peer',
      'steps',
    ],
    benches.flatMap(({ arch, batchSize, entries }) =>
      entries.map((entry) => entryRow(`${arch}, batch ${batchSize}`, entry)),
    ),
  );
}

/** Speed-ups over the fastest dense fp32 peer that we set out to reach, by network, ratio and sparsity. */
const trainGoals: readonly { readonly archs: RegExp; readonly goals: Readonly<Record<string, number>> }[] = [
  {
    archs: /^resnet(20|56)$/,
    goals: { 'uniform 0.5': 1.5, 'uniform 0.9': 3.3, 'erk 0.5': 1.2, 'erk 0.9': 2.5 },
  },
  {
    archs: /^(vgg16|wrn50)$/,
    goals: { 'uniform 0.5': 1.4, 'uniform 0.9': 4.5, 'erk 0.5': 1.15, 'erk 0.9': 3 },
  },
];

/** What was reached of the goals; 1 is the goal of our dense step. */
function goalTable(benches: readonly TrainBench[]): string {
  const rows = benches.flatMap(({ arch, entries }) => {
    const goals = trainGoals.find(({ archs }) => archs.test(arch))?.goals ?? {};
    const peers = entries.filter(({ kind, precision }) => kind !== 'ours' && precision === 'fp32');
    const dense = entries.find(({ name }) => name === 'ours dense');
    if (peers.length === 0 || !dense) return [];
    const fastest = Math.min(...peers.map(({ milliseconds }) => milliseconds.median));
    const sparse = entries.flatMap((entry) => {
      const name = entry.name.replace(/^ours /, '');
      const goal = goals[name];
      return goal && entry.speedup ? [[arch, name, times(entry.speedup), times(goal)]] : [];
    });
    return [[arch, 'dense', times(fastest / dense.milliseconds.median), times(1)], ...sparse];
  });
  return markdownTable(['network', 'ours', 'over the fastest dense fp32 peer', 'goal'], rows);
}

function bytesTable(layers: readonly LayerTiming[]): string {
  const rows = layerBytes(layers).map(({ sparsity, perNonzero, worst }) => [
    sparsity,
    perNonzero.toFixed(2),
    worst?.toFixed(2) ?? '',
  ]);
  return [
    '\nBytes that a sparse layer holds on the parameter side (values, gradients, momentum, packed weights, index), a kept\n',
    'weight, less one bit a weight; the goal is 28. At 28 a sparse layer holds as much as a dense one (12 bytes a weight,\n',
    `without packed copies) at density ${((12 - 1 / 8) / 28).toFixed(3)}:\n\n`,
    markdownTable(['sparsity', 'all layers', 'worst layer of 1,000 kept weights'], rows),
  ].join('');
}

function machineLines({ machine, date, ceilings }: BenchResults): string {
  const { cpu, cores, memoryBytes, platform, isa, node, package: version, git } = machine;
  const lines = [
    `${date.slice(0, 10)}, ${cpu}, ${cores} cores, ${bytesText(memoryBytes)}, ${platform}, kernels ${isa}.`,
    `random-pruning ${version}${git ? ` (${git.slice(0, 12)})` : ''}, Node ${node}.`,
  ];
  if (ceilings) {
    const { threads, fma_gflops, load_fma_gflops, read_gbs, copy_gbs, isa: measured } = ceilings;
    lines.push(
      `Measured ceilings, ${measured}, ${threads} threads: ${short(fma_gflops)} GFLOP/s multiply-add from registers; ${short(load_fma_gflops)} GFLOP/s with one operand from L1 and a broadcast per tile (the ceiling of a sparse kernel); ${short(read_gbs)} GB/s read from memory, ${short(copy_gbs)} GB/s read and written.`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** bench/RESULTS.md, machine by machine; the charts of `plots` lie in `folder`. */
export function resultsText(machines: readonly BenchResults[], folder: string): string {
  return [
    '# Bench results\n\n',
    'Written by `npm run bench`. Times are medians with quartiles; contestants took turns on the same cores, after\n',
    'their numbers were verified. A ratio of FLOPs is arithmetic; only a ratio of times is a speed-up.\n',
    ...machines.map((results) => machineText(results, folder)),
  ].join('');
}

function machineText(results: BenchResults, folder: string): string {
  const { layers, train, scaling, commands, machine } = results;
  const prefix = `${machineName(machine)}-`;
  const charts = [...plots(results).keys()].map((name) => name.slice(prefix.length));
  const pictures = (section: string) =>
    charts
      .filter((name) => name.startsWith(section))
      .map((name) => `\n![${name.replace(/\.svg$/, '').replace(/-/g, ' ')}](${folder}/${prefix}${name})\n`)
      .join('');
  const parts = [`\n## ${machine.cpu}, ${machine.isa}\n\n`, machineLines(results)];
  if (train) {
    const versions = new Set(train.flatMap(({ entries }) => entries.map(({ version }) => version)));
    const missing = new Set(train.flatMap((bench) => bench.missing));
    parts.push(
      `\n### Whole training steps\n\n\`${commands.train}\`, ${train[0]?.threads} threads. ${[...versions].join('; ')}.\n`,
      ...[...missing].map((sentence) => `\nNot measured: ${sentence}\n`),
      '\nForward, backward and SGD on one batch held in memory. "Over the fastest dense fp32 peer" divides that peer\'s\n',
      'time by ours (our own dense step where no peer is installed).\n\n',
      ...train
        .filter(({ resident }) => !resident)
        .map(
          ({ arch }) =>
            `${arch}: not all fit in memory at once; each was started for its turn, and warmed up.\n\n`,
        ),
      trainTable(train),
      '\nWhat was set out for, and what was reached:\n\n',
      goalTable(train),
      pictures('train-'),
    );
  }
  if (layers && layers.length > 0) {
    parts.push(
      `\n### Layers\n\n\`${commands.layers}\`, ${layers[0]!.threads} threads, oneDNN ${layers[0]!.onednn} in its best format, same process, caches flushed before each call. A step is forward + input gradient + weight gradient; sparsity 0 is our dense kernel.\n\n`,
      classTable(layers),
      '\nOf the ceilings: the least time that the measured ceilings leave the three passes (below, with every layer) ÷ the\n',
      'time taken; geometric mean. A goal that was missed at less than 85 % of them is not done.\n',
      bytesTable(layers),
      pictures('layers-'),
      '\n#### Every layer\n\n',
      layerTables(layers, results.ceilings),
    );
  }
  if (scaling) {
    parts.push(
      `\n### Scaling over batch and threads\n\n\`${commands.scaling}\`, ${scaling.ratio} at sparsity ${sparsityOf(scaling)}.\n\n`,
      markdownTable(
        ['network', 'threads', 'batch', 'our dense, images/s', 'our sparse', 'fastest dense peer', 'peer'],
        scaling.points.map(({ arch, threads, batchSize, dense, sparse, peer }) => [
          arch,
          threads,
          batchSize,
          short(dense),
          short(sparse),
          peer ? short(peer.imagesPerSecond) : '',
          peer?.name ?? 'none installed',
        ]),
      ),
      pictures('scaling-'),
    );
  }
  return parts.join('');
}

/** Charts by file name. */
export function plots({ layers, train, scaling, machine }: BenchResults): Map<string, string> {
  const prefix = `${machineName(machine)}-`;
  const charts = new Map<string, string>();
  if (layers && layers.length > 0) {
    const means = classMeans(layers).filter(({ name }) => !name.startsWith('—'));
    const sparsities = [...new Set(means.map(({ sparsity }) => sparsity))];
    const names = [...new Set(means.map(({ name }) => name))];
    charts.set(
      `${prefix}layers-speedup.svg`,
      lineChart({
        title: 'Forward + both gradients over oneDNN dense, geometric mean of a class',
        xLabel: 'sparsity (0: our dense kernel)',
        yLabel: 'speed-up',
        xs: sparsities,
        series: names.map((name) => ({
          name,
          ys: sparsities.map(
            (sparsity) => means.find((m) => m.name === name && m.sparsity === sparsity)?.mean ?? null,
          ),
        })),
      }),
    );
  }
  for (const { arch, batchSize, threads, entries } of train ?? []) {
    charts.set(
      `${prefix}train-${arch}.svg`,
      barChart({
        title: `${arch}: one training step, batch ${batchSize}, ${threads} threads`,
        yLabel: 'milliseconds',
        bars: entries.map(({ name, milliseconds: { median, low, high }, kind, density }) => ({
          name,
          value: median,
          low,
          high,
          group: kind !== 'ours' ? 'dense peers' : density === undefined ? 'ours, dense' : 'ours, sparse',
        })),
      }),
    );
  }
  if (scaling && scaling.points.length > 0) {
    const labels = scaling.points.map(({ threads, batchSize }) => `${threads}t, ${batchSize}`);
    const { points } = scaling;
    charts.set(
      `${prefix}scaling-throughput.svg`,
      lineChart({
        title: `${points[0]!.arch}: images/s over threads and batch`,
        xLabel: 'threads, batch',
        yLabel: 'images/s',
        xs: labels,
        series: [
          { name: 'fastest dense peer', ys: points.map(({ peer }) => peer?.imagesPerSecond ?? null) },
          { name: 'ours, dense', ys: points.map(({ dense }) => dense) },
          {
            name: `ours, ${scaling.ratio} ${sparsityOf(scaling)}`,
            ys: points.map(({ sparse }) => sparse),
          },
        ],
      }),
    );
  }
  return charts;
}

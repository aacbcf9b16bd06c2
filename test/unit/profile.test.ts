/** Profiles from made-up events: sums by kind and layer, Chrome's trace, tables. */
import { describe, expect, it } from 'vitest';
import {
  chromeTrace,
  type ProfiledNetwork,
  profiledLayers,
  summariseProfile,
} from '../../src/bench/profile.js';
import { profileText } from '../../src/cli/bench-profile.js';
import type { ProfileEvent } from '../../src/engine/session.js';
import { prunableLayers } from '../../src/graph/index.js';
import { makeMask } from '../helpers/golden.js';
import { tinyGraph } from '../helpers/tiny-session.js';

/** One conv of 2e6 useful FLOPs a pass (10 images · 1e5 multiply-adds of kept weights · 2), one linear layer. */
const network: ProfiledNetwork = {
  batchSize: 10,
  layers: [
    { name: 'conv.weight', shape: [4, 3, 3, 3], numel: 108, nnz: 27, macs: 1e5 },
    { name: 'fc.weight', shape: [10, 4], numel: 40, nnz: 40, macs: 40 },
  ],
};

/** A step of `scale` times 1000 µs, 100 of them in no op, from `start` on. */
function step(index: number, start: number, scale = 1): ProfileEvent[] {
  const ops: [ProfileEvent['kind'], string | null, number, number][] = [
    ['import', null, 0, 50],
    ['conv_forward', 'conv.weight', 50, 200],
    ['statistics', 'bn', 250, 100],
    ['combine_forward', 'bn', 400, 100], // 50 after the one before
    ['loss', null, 500, 50],
    ['conv_wgrad', 'conv.weight', 600, 400], // 50 after, too
  ];
  return ops.map(([kind, layer, from, duration]) => {
    const [at, took] = [start + scale * from, scale * duration];
    return { kind, layer, step: index, start: at, duration: took };
  });
}

describe('summariseProfile', () => {
  it('adds up kinds of op, and gives useful GFLOP/s for convolutions alone', () => {
    const summary = summariseProfile([...step(0, 0), ...step(1, 5000)], network);
    expect(summary.steps).toBe(2);
    expect(summary.milliseconds).toEqual({ median: 1, low: 1, high: 1, count: 2 });
    expect(summary.kinds.map(({ kind }) => kind)).toEqual([
      'conv_wgrad',
      'conv_forward',
      'statistics',
      'combine_forward',
      'import',
      'loss',
    ]);
    const [wgrad, forward, statistics] = summary.kinds;
    expect(wgrad).toEqual({
      kind: 'conv_wgrad',
      count: 1,
      milliseconds: expect.closeTo(0.4, 12),
      share: expect.closeTo(0.4, 12),
      gflops: expect.closeTo(5, 12), // 2e6 in 400 µs
    });
    expect(forward!.gflops).toBeCloseTo(10, 12);
    expect(statistics).not.toHaveProperty('gflops');
    expect(summary.between.milliseconds).toBeCloseTo(0.1, 12);
    expect(summary.between.share).toBeCloseTo(0.1, 12);
    const shares = summary.kinds.reduce((sum, { share }) => sum + share, summary.between.share);
    expect(shares).toBeCloseTo(1, 12);
  });

  it('has a row a layer: its passes, null for one that did not run', () => {
    const [conv, fc] = summariseProfile(step(0, 0), network).layers;
    expect(conv).toMatchObject({ layer: 'conv.weight', nnz: 27, density: 0.25, dgrad: null });
    expect(conv!.forward).toEqual({
      milliseconds: expect.closeTo(0.2, 12),
      share: expect.closeTo(0.2, 12),
      gflops: expect.closeTo(10, 12),
    });
    expect(conv!.share).toBeCloseTo(0.6, 12);
    expect(fc).toMatchObject({ layer: 'fc.weight', forward: null, dgrad: null, wgrad: null, share: 0 });
  });

  it('leaves the fastest and the slowest quarter of the steps out of sums, not out of quartiles', () => {
    const events = [1, 1, 50, 0.1].flatMap((scale, i) => step(i, 1e6 * i, scale));
    const { kinds, steps, milliseconds } = summariseProfile(events, network);
    expect(steps).toBe(4);
    expect(milliseconds.count).toBe(4);
    expect(kinds[0]!.milliseconds).toBeCloseTo(0.4, 12);
  });

  it('counts the ops of every micro-batch of a step', () => {
    const twice = [...step(0, 0), ...step(0, 1000)];
    const { kinds, layers } = summariseProfile(twice, network);
    expect(kinds[0]).toMatchObject({ kind: 'conv_wgrad', count: 2, gflops: expect.closeTo(5, 12) });
    expect(layers[0]!.wgrad!.milliseconds).toBeCloseTo(0.8, 12);
  });

  it('gives 0 GFLOP/s to an op too short for the clock, and to a fully pruned layer', () => {
    const [event] = step(0, 0).filter(({ kind }) => kind === 'conv_forward');
    const instant = summariseProfile(
      [...step(0, 0), { ...event!, layer: 'fc.weight', duration: 0 }],
      network,
    );
    expect(instant.layers[1]!.forward!.gflops).toBe(0);
    const layers = network.layers.map((layer) => ({ ...layer, nnz: 0, macs: 0 }));
    expect(summariseProfile(step(0, 0), { ...network, layers }).layers[0]!.forward!.gflops).toBe(0);
  });

  it('refuses no events', () => expect(() => summariseProfile([], network)).toThrow(RangeError));
});

describe('profiledLayers', () => {
  it('counts multiply-adds of kept weights only', () => {
    const graph = tinyGraph();
    const third = graph.params.map(({ prunable, shape }) =>
      prunable ? makeMask(shape, (i) => i % 3 === 0) : null,
    );
    const [dense, sparse] = [profiledLayers(graph, []), profiledLayers(graph, third)];
    expect(dense.map(({ name, macs }) => ({ name, macs }))).toEqual(
      prunableLayers(graph).map(({ name, macs }) => ({ name, macs })),
    );
    for (const [i, { nnz, numel, macs }] of sparse.entries()) {
      expect([nnz, macs]).toEqual([numel / 3, dense[i]!.macs / 3]);
    }
  });
});

describe('chromeTrace', () => {
  const about = { arch: 'tiny', threads: 2 };
  const trace = chromeTrace([...step(0, 0.0004), ...step(1, 5000)], network, about);
  const of = (name: string) => trace.traceEvents.filter((event) => event.name === name);

  it('survives JSON, and says what was profiled', () => {
    expect(JSON.parse(JSON.stringify(trace))).toEqual(trace);
    expect(trace).toMatchObject({ displayTimeUnit: 'ms', otherData: about });
  });
  it('has complete events with times in microseconds, no finer than nanoseconds', () => {
    expect(of('conv_wgrad conv.weight')).toEqual(
      [600, 5600].map((ts, index) => ({
        name: 'conv_wgrad conv.weight',
        ph: 'X',
        cat: 'conv_wgrad',
        pid: 1,
        tid: 2,
        ts,
        dur: 400,
        args: {
          layer: 'conv.weight',
          pass: 'wgrad',
          step: index,
          share: 0.4,
          nnz: 27,
          density: 0.25,
          macs: 1e6,
          gflops: 5,
        },
      })),
    );
  });
  it('shows the steps above their ops, and names both rows', () => {
    expect(of('step 1')).toEqual([
      { name: 'step 1', ph: 'X', cat: 'step', pid: 1, tid: 1, ts: 5000, dur: 1000, args: { ops: 6 } },
    ]);
    expect(of('thread_name').map(({ tid, args }) => [tid, args.name])).toEqual([
      [1, 'steps'],
      [2, 'ops'],
    ]);
  });
  it('gives ops that are no convolution a layer and a pass, and no figures of weights', () => {
    expect(of('statistics bn')[0]!.args).toEqual({ layer: 'bn', pass: 'forward', step: 0, share: 0.1 });
    expect(of('loss')[0]!.args).toMatchObject({ layer: null, pass: 'forward' });
  });
});

it('the tables show every kind, the rest, and every layer', () => {
  const summary = summariseProfile([...step(0, 0), ...step(1, 5000)], network);
  const about = { arch: 'tiny', ratio: 'erk', density: 0.3, batchSize: 10, threads: 2, version: '1' };
  const text = profileText({ ...about, ...summary });
  const lines = text.split('\n').map((line) => line.replace(/ +/g, ' '));
  expect(lines).toEqual([
    'tiny erk 0.7, batch 10, 2 threads: 1.0 ms a step (quartiles 1.0-1.0 of 2)',
    '',
    'op a step ms share GFLOP/s',
    'conv_wgrad 1 0.40 40.0% 5.0',
    'conv_forward 1 0.20 20.0% 10.0',
    'statistics 1 0.10 10.0% -',
    'combine_forward 1 0.10 10.0% -',
    'import 1 0.05 5.0% -',
    'loss 1 0.05 5.0% -',
    '(between ops) - 0.10 10.0% -',
    '',
    'layer shape density forward ms GFLOP/s dgrad ms GFLOP/s wgrad ms GFLOP/s share',
    'conv.weight 4x3x3x3 0.250 0.20 10.0 - - 0.40 5.0 60.0%',
    'fc.weight 10x4 1.000 - - - - - - 0.0%',
    '',
    'GFLOP/s of kept weights only; times are means over the middle half of the steps.',
    'Of an op that takes turns with a convolution, the time of the first thread.',
    '',
  ]);
  const { ratio: _, density: __, ...dense } = { ...about, ...summary };
  expect(profileText(dense)).toContain('tiny dense, batch 10');
});

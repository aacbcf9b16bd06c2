/** `rp bench` whole, without the other libraries: two contestants of ours, verified and timed; and a profile. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Trace } from '../../src/bench/profile.js';
import type { TrainProfile } from '../../src/bench/profile-run.js';
import type { TrainBench } from '../../src/bench/train.js';
import { compileSources, startNode } from '../helpers/compiled.js';
import { temporaryDirectory } from '../helpers/temporary.js';

let sources: ReturnType<typeof compileSources>;
beforeAll(() => {
  sources = compileSources();
});
afterAll(() => sources.remove());

const bench = (...argv: string[]) =>
  startNode([path.join(sources.directory, 'src', 'cli', 'main.js'), 'bench', ...argv]).exited;

it('times a sparse network beside the dense one and shows arithmetic beside measurement', async () => {
  const argv = [
    '-a',
    'resnet20',
    '-b',
    '16',
    '--ratio',
    'erk',
    '--sparsity',
    '0.9',
    '--no-peers',
    '--threads',
    '1',
  ];
  const { code, stdout, stderr } = await bench(...argv, '--seconds', '0.05', '--rounds', '2', '--json');
  expect(stderr).not.toContain('Error');
  expect(code).toBe(0);
  const { entries, batchSize } = JSON.parse(stdout) as TrainBench;
  expect(batchSize).toBe(16);
  const [dense, sparse] = entries;
  expect(dense).toMatchObject({ name: 'ours dense' });
  expect(sparse).toMatchObject({ name: 'ours erk 0.9', ratio: 'erk' });
  expect(sparse!.flopsRatio).toBeGreaterThan(0.1);
  expect(sparse!.flopsRatio).toBeLessThan(0.25);
  expect(sparse!.timeRatio).toBeCloseTo(sparse!.milliseconds.median / dense!.milliseconds.median, 9);
  expect(sparse!.milliseconds.count).toBeGreaterThanOrEqual(2);
  expect(sparse!.losses.every(Number.isFinite)).toBe(true);
});

describe('--profile', () => {
  const directory = temporaryDirectory('profile');
  const short = ['-a', 'resnet8-4', '-b', '4', '--threads', '1', '--seconds', '0.001'];
  const read = (file: string) => JSON.parse(fs.readFileSync(file, 'utf8')) as Trace;

  it('writes a trace and sums it up', async () => {
    const file = path.join(directory, 'sparse.json');
    const argv = ['--profile', file, '--ratio', 'erk,uniform', '--sparsity', '0.8,0.5', '--json'];
    const { code, stdout, stderr } = await bench(...short, ...argv);
    expect(stderr).not.toContain('Error');
    expect(code).toBe(0);
    const profile = JSON.parse(stdout) as TrainProfile & { trace: string };
    expect(profile).toMatchObject({ arch: 'resnet8-4', ratio: 'erk', batchSize: 4, steps: 3, trace: file });
    expect(profile.density).toBeCloseTo(0.2, 9);
    const { traceEvents, otherData } = read(file);
    expect(otherData).toMatchObject({ arch: 'resnet8-4', ratio: 'erk', batchSize: 4, threads: 1 });
    expect(traceEvents.filter(({ cat }) => cat === 'step')).toHaveLength(3);
    for (const { layer, nnz, density, forward, wgrad } of profile.layers) {
      const own = traceEvents.filter(({ cat, args }) => cat === 'conv_wgrad' && args.layer === layer);
      expect(own.map(({ args }) => [args.nnz, args.step])).toEqual([0, 1, 2].map((step) => [nnz, step]));
      for (const { ts, dur } of own) expect(ts! + dur!).toBeGreaterThan(0);
      if (density > 0) expect(Math.min(forward!.gflops, wgrad!.gflops)).toBeGreaterThan(0);
    }
    const total = profile.layers.reduce((sum, { nnz }) => sum + nnz, 0);
    const dense = profile.layers.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(total / dense).toBeGreaterThan(0.1);
    expect(total / dense).toBeLessThan(0.3);
  });

  it('of sparsity 0 is the dense network, as tables, in the default file', async () => {
    const argv = [path.join(sources.directory, 'src', 'cli', 'main.js'), 'bench', ...short];
    const here = { cwd: directory };
    const { code, stdout } = await startNode([...argv, '--sparsity', '0', '--profile'], here).exited;
    expect(code).toBe(0);
    expect(stdout).toMatch(/^resnet8-4 dense, batch 4, 1 threads: [\d.]+ ms a step/);
    expect(stdout).toMatch(/^conv_dgrad +\d+ /m);
    expect(stdout).toMatch(/^fc\.weight +10x16 +1\.000 /m);
    expect(stdout).toContain('rp-profile.json: every op of every step');
    expect(read(path.join(directory, 'rp-profile.json')).otherData).not.toHaveProperty('ratio');
  });
});

it.each([
  [['--profile', '/no/such/folder/x.json'], '--profile: expected a file that can be written, got ENOENT'],
  [['--sparsity', '50'], '--sparsity: expected numbers in [0, 1), got 50.'],
  [['--ratio', 'snip'], '--ratio: expected policies that need no data, got snip.'],
  [['--threads', 'two'], '--threads: expected a count, got two.'],
])('exits 2 on %j', async (argv, message) => {
  const { code, stderr } = await bench(...argv);
  expect(stderr).toContain(message);
  expect(code).toBe(2);
});

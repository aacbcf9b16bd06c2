/** `rp bench` whole, without the other libraries: two contestants of ours, verified and timed. */
import * as path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TrainBench } from '../../src/bench/train.js';
import { compileSources, startNode } from '../helpers/compiled.js';

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

it.each([
  [['--sparsity', '50'], '--sparsity: expected numbers in [0, 1), got 50.'],
  [['--ratio', 'snip'], '--ratio: expected policies that need no data, got snip.'],
  [['--threads', 'two'], '--threads: expected a count, got two.'],
])('exits 2 on %j', async (argv, message) => {
  const { code, stderr } = await bench(...argv);
  expect(stderr).toContain(message);
  expect(code).toBe(2);
});

/** Sessions in worker_threads, and environments that end while a session computes. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { nativePath } from '../../src/engine/native.js';
import { nativeModel } from '../../src/engine/native-session.js';
import { allValues, TINY_BATCH, tinyBatch, tinyGraph, tinySession } from '../helpers/tiny-session.js';

const script = fileURLToPath(new URL('../helpers/session-worker.mjs', import.meta.url));
const graph = tinyGraph();
const { images, labels } = tinyBatch();

async function workerData(then: string, steps = 5) {
  const session = await tinySession();
  const weights = await allValues(session);
  await session.dispose();
  return {
    addon: nativePath(),
    engine: session.engine,
    model: nativeModel(graph, [], []),
    config: { maxBatch: TINY_BATCH, threads: 2, pin: false, programs: 3, measure: false, tiles: '' },
    weights,
    images: Array.from(images),
    labels: Array.from(labels),
    steps,
    then,
  };
}

function firstMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

const ended = (worker: Worker) => new Promise<number>((resolve) => worker.once('exit', resolve));

describe('worker_threads', () => {
  it('train as the main thread does, several at once', async () => {
    const session = await tinySession();
    // Running variances as the worker leaves them: train mode does not read them.
    for (let i = 0; i < 5; i++) await session.step(images, labels, { lr: 0.1, momentum: 0.9 });
    const expected = await allValues(session);
    await session.dispose();

    const workers = await Promise.all(
      ['finish', 'dispose', 'finish'].map(
        async (then) => new Worker(script, { workerData: await workerData(then) }),
      ),
    );
    const exits = workers.map(ended);
    const results = await Promise.all(workers.map(firstMessage));
    for (const weights of results) expect(weights).toEqual(expected);
    // A session left open does not keep its thread alive.
    expect(await Promise.all(exits)).toEqual([0, 0, 0]);
  });

  it('may be terminated while a step runs and others wait', async () => {
    const data = await workerData('hang', 0);
    for (let round = 0; round < 8; round++) {
      const workers = [0, 1].map(() => new Worker(script, { workerData: data }));
      await Promise.all(workers.map(firstMessage));
      await new Promise((resolve) => setTimeout(resolve, round * 3));
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
    // The addon and this thread's sessions are unharmed.
    const session = await tinySession();
    await expect(session.step(images, labels, { lr: 0.1 })).resolves.toHaveProperty('loss');
    await session.dispose();
  });
});

describe('the process', () => {
  it('exits with its code while steps run', async () => {
    const data = await workerData('exit', 1);
    const child = spawnSync(process.execPath, [script, JSON.stringify(data)], { encoding: 'utf8' });
    expect({ status: child.status, signal: child.signal, stderr: child.stderr }).toEqual({
      status: 7,
      signal: null,
      stderr: '',
    });
  });
});

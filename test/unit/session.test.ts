import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import { createSession, planMemory } from '../../src/engine/create-session.js';
import { native } from '../../src/engine/native.js';
import type { Session, SessionOptions } from '../../src/engine/session.js';
import type { Mask } from '../../src/masks/mask.js';
import {
  allValues,
  TINY_BATCH,
  tinyBatch,
  tinyGraph,
  tinyLoader,
  tinySession,
} from '../helpers/tiny-session.js';

const open: { dispose(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.dispose();
});

async function session(options: Partial<SessionOptions> = {}): Promise<Session> {
  const made = await tinySession(options);
  open.push(made);
  return made;
}

function loader(options: Parameters<typeof tinyLoader>[0] = {}) {
  const made = tinyLoader(options);
  open.push(made);
  return made;
}

const sgd = { lr: 0.1, momentum: 0.9 };

describe('the queue', () => {
  it('runs concurrent calls in the order they were made, as if each had been awaited', async () => {
    const [queued, awaited] = [await session(), await session()];
    const order: string[] = [];
    const calls = [];
    for (let i = 0; i < 5; i++) {
      const { images, labels } = tinyBatch(i);
      calls.push(queued.step(images, labels, sgd).then(() => order.push(`step ${i}`)));
      calls.push(queued.read('value', 'fc.weight').then((values) => order.push(`read ${values[0]}`)));
    }
    await Promise.all(calls);
    const expected: string[] = [];
    for (let i = 0; i < 5; i++) {
      const { images, labels } = tinyBatch(i);
      await awaited.step(images, labels, sgd);
      expected.push(`step ${i}`, `read ${(await awaited.read('value', 'fc.weight'))[0]}`);
    }
    expect(order).toEqual(expected);
    expect(await allValues(queued)).toEqual(await allValues(awaited));
  });

  it('copies what it is given: arrays may be reused or transferred while a call waits', async () => {
    const [reused, plain] = [await session(), await session()];
    const { images, labels } = tinyBatch();
    const values = await plain.read('value', 'fc.weight');
    const expected = await plain.step(images, labels, sgd);

    const writing = reused.write('value', 'fc.weight', values);
    values.fill(99);
    const own = { images: images.slice(), labels: labels.slice() };
    const stepping = reused.step(own.images, own.labels, sgd);
    structuredClone(own.images.buffer, { transfer: [own.images.buffer] });
    own.labels.fill(-1);
    await writing;
    expect(await stepping).toEqual(expected);
    expect(await allValues(reused)).toEqual(await allValues(plain));
  });

  it('keeps the event loop free: timers fire while steps run', async () => {
    const busy = await session();
    busy.attach(loader());
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const { seconds } = await busy.run({ firstStep: 0, steps: 2000, lr: 1e-4 });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(Math.min(5, seconds * 100));
  });

  it('goes on after a call that failed', async () => {
    const one = await session();
    const { images, labels } = tinyBatch();
    await expect(one.step(images, Int32Array.of(0), sgd)).rejects.toThrow('values');
    await expect(one.step(images, labels, sgd)).resolves.toHaveProperty('correct');
  });
});

describe('run', () => {
  it('equals gradient and update by hand, micro-batch by micro-batch', async () => {
    const [whole, parts] = [await session(), await session()];
    const stream = loader({ batchSize: 4, accumulate: 2, shuffle: true, seed: 3 });
    whole.attach(stream);
    const lr = [0.1, 0.05, 0.2];
    const result = await whole.run({ firstStep: 1, steps: 3, lr, momentum: 0.9, nesterov: true });
    let [images, correct, lossSum] = [0, 0, 0];
    for (let step = 1; step <= 3; step++) {
      for (let micro = 0; ; micro++) {
        const batch = await stream.batch(step, micro);
        if (batch.labels.length === 0) break;
        const part = await parts.gradient(batch.images, batch.labels, {
          weight: batch.weight,
          accumulate: micro > 0,
        });
        images += batch.labels.length;
        correct += part.correct;
        lossSum += part.loss * batch.labels.length;
      }
      await parts.update({ lr: lr[step - 1]!, momentum: 0.9, nesterov: true });
    }
    expect(await allValues(whole)).toEqual(await allValues(parts));
    expect(result).toMatchObject({ stepsDone: 3, images, correct, failure: null });
    expect(result.loss).toBeCloseTo(lossSum / images, 12);
    expect(result.stepLosses).toHaveLength(3);
    expect(result.waitSeconds).toBeLessThanOrEqual(result.seconds);
  });

  it('stops between steps when its signal aborts, and leaves whole steps behind', async () => {
    const [stopped, plain] = [await session(), await session()];
    for (const one of [stopped, plain]) one.attach(loader({ shuffle: true }));
    const controller = new AbortController();
    const running = stopped.run({ firstStep: 0, steps: 1e5, lr: 1e-3, signal: controller.signal });
    setTimeout(() => controller.abort(), 30);
    const { stepsDone, stepLosses, failure } = await running;
    expect(stepsDone).toBeGreaterThan(0);
    expect(stepsDone).toBeLessThan(1e5);
    expect(stepLosses).toHaveLength(stepsDone);
    expect(failure).toBeNull();
    await plain.run({ firstStep: 0, steps: stepsDone, lr: 1e-3 });
    expect(await allValues(stopped)).toEqual(await allValues(plain));
  });

  it('does nothing when its signal aborted while it waited', async () => {
    const one = await session();
    one.attach(loader());
    const before = await allValues(one);
    const controller = new AbortController();
    const [first, second] = [
      one.run({ firstStep: 0, steps: 200, lr: 0 }),
      one.run({ firstStep: 0, steps: 200, lr: 1, signal: controller.signal }),
    ];
    controller.abort();
    expect((await first).stepsDone).toBe(200);
    expect(await second).toMatchObject({ stepsDone: 0, images: 0, failure: null });
    expect(await allValues(one)).toEqual(before);
  });

  it('names the step and the layer that is not finite, and leaves its update out', async () => {
    const one = await session();
    one.attach(loader());
    await one.run({ firstStep: 0, steps: 2, lr: 0.1 });
    const weights = await one.read('value', 'fc.weight');
    await one.write(
      'value',
      'fc.weight',
      weights.map(() => Number.POSITIVE_INFINITY),
    );
    const before = await allValues(one);
    const { stepsDone, failure } = await one.run({ firstStep: 2, steps: 5, lr: 0.1 });
    expect({ stepsDone, failure }).toEqual({ stepsDone: 0, failure: { step: 2, layer: 'fc' } });
    expect(await allValues(one)).toEqual(before);
  });

  it('lets two sessions share one stream', async () => {
    const [a, b, alone] = [await session(), await session(), await session()];
    const stream = loader({ shuffle: true });
    for (const one of [a, b]) one.attach(stream);
    alone.attach(loader({ shuffle: true }));
    const options = { firstStep: 0, steps: 50, lr: 0.01 };
    await Promise.all([a.run(options), b.run(options), alone.run(options)]);
    const expected = await allValues(alone);
    expect(await allValues(a)).toEqual(expected);
    expect(await allValues(b)).toEqual(expected);
  });
});

describe('evaluateStream', () => {
  it('covers one epoch, the partial batch included', async () => {
    const one = await session();
    const stream = loader();
    const { images, correct, accuracy, nll } = await one.evaluateStream(stream);
    let [seen, right, nllSum] = [0, 0, 0];
    for (let step = 0; step < stream.stepsPerEpoch; step++) {
      const batch = await stream.batch(step);
      const part = await one.evaluate(batch.images, batch.labels);
      seen += batch.labels.length;
      right += part.correct;
      nllSum += part.nll * batch.labels.length;
    }
    expect([images, correct]).toEqual([20, right]);
    expect(seen).toBe(20);
    expect(accuracy).toBe(right / 20);
    expect(nll).toBeCloseTo(nllSum / 20, 12);
  });

  it('rejects with the reason of its signal', async () => {
    const one = await session();
    const reason = new Error('enough');
    await expect(one.evaluateStream(loader(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('dispose', () => {
  it('waits for the calls before it, refuses those after it, and may be repeated', async () => {
    const one = await tinySession();
    const { images, labels } = tinyBatch();
    const settled: string[] = [];
    const steps = [1, 2, 3].map((i) => one.step(images, labels, sgd).then(() => settled.push(`step ${i}`)));
    const disposed = one.dispose().then(() => settled.push('disposed'));
    await expect(one.step(images, labels, sgd)).rejects.toThrow(
      '[session] expected an open session, got a disposed one. Make another with createSession().',
    );
    await expect(one.read('value', 'fc.weight')).rejects.toThrow('disposed');
    expect(() => one.attach({ stepsPerEpoch: 1, native: null })).toThrow('disposed');
    await Promise.all([...steps, disposed, one.dispose()]);
    expect(settled).toEqual(['step 1', 'step 2', 'step 3', 'disposed']);
  });
});

describe('memory', () => {
  const large: SessionOptions = { graph: tinyGraph(), engine: 'reference', batchSize: 20_000, threads: 1 };
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const external = () => native().session.externalMemory();

  it('is planned before it is taken: planMemory equals the session', async () => {
    const one = await session({ programs: ['train'] });
    const plan = planMemory({
      graph: tinyGraph(),
      engine: one.engine,
      threads: 1,
      batchSize: TINY_BATCH,
      programs: ['train'],
    });
    expect(one.memory).toEqual(plan);
    expect(plan.total).toBe(plan.activations + plan.parameters);
    expect(planMemory(large).total).toBeGreaterThan(1000 * plan.activations);
  });

  it('is reported to V8 until dispose', async () => {
    collect();
    const before = external();
    const one = await createSession(large);
    expect(external() - before).toBeGreaterThan(0.9 * one.memory.total);
    await one.dispose();
    expect(external() - before).toBeLessThan(0.1 * one.memory.total);
  });

  it('of an abandoned session goes with it', async () => {
    collect();
    const before = external();
    let total = 0;
    await (async () => {
      const one = await createSession(large);
      const reported = external() - before;
      total = one.memory.total;
      expect(reported).toBeGreaterThan(0.9 * total);
    })();
    for (let i = 0; i < 20 && external() - before > 0.1 * total; i++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(external() - before).toBeLessThan(0.1 * total);
  });
});

describe('errors', () => {
  const graph = tinyGraph();
  const base: SessionOptions = { graph, engine: 'reference', batchSize: 4 };
  const mask = (bits: number[], nnz: number): Mask => ({
    shape: [3, 2, 3, 3],
    numel: 54,
    nnz,
    bits: Uint8Array.from(bits),
  });
  const withMask = (one: Mask) => ({ ...base, masks: graph.params.map((_, i) => (i === 0 ? one : null)) });

  it.each<[string, unknown, string]>([
    [
      'an engine that this build lacks',
      { ...base, engine: 'cuda' },
      '--device cuda: this build has no CUDA back-end. Run `npm run build:cuda`, or pass --device cpu.',
    ],
    ['an unknown engine', { ...base, engine: 'refrence' }, '[session]: unknown engine "refrence".'],
    [
      'an unknown program',
      { ...base, programs: ['trian'] },
      'unknown program "trian". Known: train, eval, inputGradient, tangent. Did you mean "train"?',
    ],
    ['no program', { ...base, programs: [] }, 'expected at least one program'],
    ['a batch of none', { ...base, batchSize: 0 }, 'expected batchSize to be a positive integer, got 0'],
    [
      'half a thread',
      { ...base, threads: 0.5 },
      'expected threads to be 0 (every core) or a positive integer, got 0.5',
    ],
    [
      'too few masks',
      { ...base, masks: [null] },
      `expected ${graph.params.length} masks, one a parameter, got 1`,
    ],
    [
      'a negative decay',
      { ...base, weightDecay: graph.params.map(() => -1) },
      'expected weightDecay values to be finite and >= 0, got -1',
    ],
    [
      'a mask of another shape',
      withMask({ ...mask([], 0), shape: [54] }),
      '[conv.weight] expected a mask of shape (3, 2, 3, 3), got (54)',
    ],
    ['too few mask bits', withMask(mask([1], 1)), '[conv.weight] expected 7 bytes of mask bits, got 1'],
    [
      'a wrong count',
      withMask(mask([3, 0, 0, 0, 0, 0, 0], 3)),
      '[conv.weight] expected a mask with nnz = 3 bits set below 54, got 2',
    ],
    [
      'a bit past the end',
      withMask(mask([0, 0, 0, 0, 0, 0, 64], 1)),
      '[conv.weight] expected a mask with nnz = 1 bits set below 54',
    ],
  ])('createSession and planMemory refuse %s', async (_, options, message) => {
    const name = (graph.params[0] as { name: string }).name;
    const expected = message.replace('conv.weight', name);
    await expect(createSession(options as SessionOptions)).rejects.toThrow(expected);
    expect(() => planMemory(options as SessionOptions)).toThrow(expected);
  });

  it('of native code have the stack of the call', async () => {
    const call = createSession({ ...base, engine: 'cpu', plan: 'no plan' });
    const error = (await call.then(
      () => null,
      (thrown: unknown) => thrown,
    )) as Error;
    expect(error.message).toContain('plan');
    expect(error.stack).toContain('session.test.ts');
    expect(error.stack).toContain(error.message);
  });

  it('says what is wrong with a call', async () => {
    const one = await session({ programs: ['train'] });
    const { images, labels } = tinyBatch();
    const rejects = (call: Promise<unknown>, message: string) => expect(call).rejects.toThrow(message);
    await rejects(
      one.step(images, labels, { lr: Number.NaN }),
      '[session] expected lr to be finite, got NaN.',
    );
    await rejects(
      one.step(images, labels, { lr: 1, momentum: -1 }),
      'expected momentum to be finite and >= 0',
    );
    await rejects(
      one.step(images, labels, { lr: 1, nesterov: true }),
      'expected a momentum > 0 with nesterov',
    );
    await rejects(
      one.gradient(images, labels, { labelSmoothing: 2 }),
      'expected labelSmoothing in [0, 1], got 2',
    );
    await rejects(
      one.gradient(images.subarray(1), labels),
      `expected images (8, 2, 6, 6) = 576 values for 8 labels, got 575 values`,
    );
    await rejects(
      one.gradient(
        images,
        labels.map(() => 4),
      ),
      'expected labels in [0, 4), got 4 at 0',
    );
    const nine = tinyBatch(0, 9);
    await rejects(
      one.gradient(nine.images, nine.labels),
      'expected 1 to 8 images (the planned batch), got 9 labels',
    );
    await rejects(
      one.evaluate(images, labels),
      "expected a session with program 'eval', got one planned for train.",
    );
    await rejects(one.read('direction', 'fc.weight'), "expected a session with program 'tangent'");
    await rejects(one.read('value', 'fc.wieght'), 'unknown parameter "fc.wieght".');
    await rejects(
      one.write('value', 'fc.weight', new Float32Array(3)),
      '[fc.weight] expected 12 value values (packed',
    );
    await rejects(
      one.run({ firstStep: 0, steps: 1, lr: 1 }),
      'expected a stream to train on: call attach(stream) first',
    );
    one.attach({ stepsPerEpoch: 1, native: {} });
    await rejects(one.run({ firstStep: 0, steps: 1, lr: 1 }), 'expected an open batch stream');
    one.attach(loader({ batchSize: 9 }));
    await rejects(
      one.run({ firstStep: 0, steps: 1, lr: 1 }),
      'expected a stream with batches of at most 8 images (the planned batch), got 9',
    );
    await rejects(
      one.run({ firstStep: 0, steps: 2, lr: [1] }),
      'expected one lr, or one for each of 2 steps, got 1 of them',
    );
    const closed = tinyLoader();
    closed.dispose();
    one.attach(closed);
    await rejects(one.run({ firstStep: 0, steps: 1, lr: 1 }), 'expected an open batch stream');
  });

  it('refuses a stream of images of another size', async () => {
    const one = await session({ graph: tinyGraph(8) });
    one.attach(loader());
    await expect(one.run({ firstStep: 0, steps: 1, lr: 1 })).rejects.toThrow(
      'expected a stream of images with 128 values (C·H·W), got 72',
    );
  });
});

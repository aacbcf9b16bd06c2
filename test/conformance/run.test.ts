/**
 * What every engine's `run` promises (engine_abi.h): it equals gradient and update called step by step, bit for bit,
 * micro-batches included; and it stops at the first step that is not finite, names the layer, and leaves no trace of it.
 */
import { describe, expect, test } from 'vitest';
import { type Dataset, imageSet, openLoader } from '../../src/data/index.js';
import type { Session, Values } from '../../src/engine/session.js';
import { GraphBuilder } from '../../src/graph/index.js';
import { bottleneckClasses, bottleneckGraph } from '../helpers/bottleneck.js';
import { engines, withSession } from '../helpers/engines.js';
import { everyOpWeights } from '../helpers/every-op.js';
import { hashUniform, makeMask } from '../helpers/golden.js';

function smallGraph() {
  const g = new GraphBuilder('small', [3, 8, 8]);
  let x = g.convBnRelu(g.input, { out: 4, kernel: 3 });
  // The cpu engine stores what lies between these two convolutions nowhere.
  const between = g.convBnRelu(x, { out: 4, kernel: 3 });
  x = g.relu(g.add(x, g.convBn(between, { out: 4, kernel: 3 })));
  return g.build(g.linear(g.globalAvgPool(x), { out: 5, name: 'fc' }));
}

const graph = smallGraph();
const weights = everyOpWeights(graph);
const images = imageSet({
  shape: [3, 8, 8],
  classes: 5,
  pixels: Uint8Array.from(hashUniform(1, 20 * 192).map((u) => 256 * u)),
  labels: Int32Array.from({ length: 20 }, (_, i) => (3 * i) % 5),
});
const dataset: Dataset = {
  name: 'noise',
  description: 'uniform noise',
  synthetic: true,
  classes: 5,
  imageShape: [3, 8, 8],
  augmentation: { kind: 'crop', pad: 1, padding: 'zero' },
  mean: [0.5, 0.5, 0.5],
  std: [0.25, 0.25, 0.25],
  train: images,
  test: images,
};
// 20 images in steps of 2 x 6: a whole step, then one of 6 + 2.
const batches = { split: 'train', batchSize: 6, accumulate: 2, shuffle: true, seed: 3 } as const;
const sgd = { momentum: 0.9, nesterov: true };

async function state(session: Session): Promise<Record<string, Values>> {
  const values: Record<string, Values> = {};
  for (const { name } of graph.params) {
    values[name] = await session.read('value', name);
    values[`${name} momentum`] = await session.read('momentum', name);
  }
  for (const { name } of graph.buffers) values[name] = await session.read('running', name);
  return values;
}

describe.each(engines)('%s', (engine) => {
  const options = { graph, engine, batchSize: 6, threads: 1, weightDecay: graph.params.map(() => 1e-3) };

  /** The state after `run`, and its result. */
  async function trained(
    steps: number,
    lr: number | number[],
    prepare?: (session: Session) => Promise<void>,
  ) {
    const loader = openLoader(dataset, batches);
    try {
      return await withSession(options, weights, async (session) => {
        await prepare?.(session);
        session.attach(loader);
        const result = await session.run({ firstStep: 0, steps, lr, labelSmoothing: 0.1, ...sgd });
        return { result, state: await state(session) };
      });
    } finally {
      loader.dispose();
    }
  }

  test('run equals gradient and update, step by step', async () => {
    const lr = [0.1, 0.1, 0.05, 0.05];
    const run = await trained(4, lr);
    expect(run.result).toMatchObject({ stepsDone: 4, images: 40, failure: null });

    const loader = openLoader(dataset, batches);
    await withSession(options, weights, async (session) => {
      for (const [step, rate] of lr.entries()) {
        let loss = 0;
        for (let micro = 0; micro < 2; micro++) {
          const batch = await loader.batch(step, micro);
          const { weight } = batch;
          const gradientOptions = { weight, accumulate: micro > 0, labelSmoothing: 0.1 };
          const result = await session.gradient(batch.images, batch.labels, gradientOptions);
          loss += weight * result.loss;
        }
        await session.update({ lr: rate, ...sgd });
        expect(run.result.stepLosses[step]).toBeCloseTo(loss, 12);
      }
      expect(run.state).toEqual(await state(session));
    });
    loader.dispose();
  });

  test('a step that is not finite stops the run, is not applied, and names the layer', async () => {
    // The second step is so large that weights times activations overflow in the third one.
    const huge = engine === 'reference' ? 1e200 : 1e30;
    const failed = await trained(4, [0.1, huge, 0.1, 0.1]);
    expect(failed.result).toMatchObject({ stepsDone: 2, failure: { step: 2, layer: 'conv2' } });
    expect(failed.state).toEqual((await trained(2, [0.1, huge])).state);
  });

  test.each([
    ['conv1.weight', 'conv1'],
    ['bn2.bias', 'bn2'],
    ['bn3.weight', 'bn3'],
    ['fc.bias', 'fc'],
  ])('NaN in %s shows first in %s', async (param, layer) => {
    const { result } = await trained(2, 0.1, async (session) => {
      await session.write('value', param, (await session.read('value', param)).fill(Number.NaN));
    });
    expect(result).toMatchObject({ stepsDone: 0, failure: { step: 0, layer } });
  });
});

function pooledGraph() {
  const g = new GraphBuilder('pooled', [3, 10, 10]);
  const x = g.maxPool(g.convBnRelu(g.input, { out: 8, kernel: 3 }), { kernel: 2, stride: 2 });
  const y = g.maxPool(g.convBnRelu(x, { out: 8, kernel: 3 }), { kernel: 3, stride: 2, padding: 1 });
  return g.build(g.linear(g.globalAvgPool(y), { out: bottleneckClasses, name: 'fc' }));
}

// Where the cpu engine stores values in parts or not at all. One weight alone is NaN, so that what it shows in is one
// channel of them.
test.each([
  [
    'rows are cut into parts',
    bottleneckGraph(),
    [
      ['block0.conv1.weight', 'block0.conv1'],
      ['block0.bn2.bias', 'block0.bn2'],
      ['block1.conv3.weight', 'block1.conv3'],
      ['block1.bn3.weight', 'block1.bn3'],
    ],
  ],
  [
    'max pools make what they read',
    pooledGraph(),
    [
      ['conv1.weight', 'conv1'],
      ['bn1.weight', 'bn1'],
      ['conv2.weight', 'conv2'],
      ['bn2.bias', 'bn2'],
    ],
  ],
] as const)('NaN shows in the first layer that has it where %s', async (_, graph, layers) => {
  const [channels, height, width] = graph.input;
  const set = imageSet({
    shape: [channels, height, width],
    classes: bottleneckClasses,
    pixels: Uint8Array.from(hashUniform(2, 20 * channels * height * width).map((u) => 256 * u)),
    labels: Int32Array.from({ length: 20 }, (_, i) => i % bottleneckClasses),
  });
  const loader = openLoader(
    { ...dataset, classes: bottleneckClasses, imageShape: set.shape, train: set, test: set },
    { split: 'train', batchSize: 20, shuffle: true, seed: 3 },
  );
  const masks = graph.params.map(({ prunable, shape }) =>
    prunable ? makeMask(shape, (j) => j % 7 === 0) : null,
  );
  const options = { graph, masks, engine: 'cpu', batchSize: 20 } as const;
  try {
    for (const [param, layer] of layers) {
      await withSession(options, everyOpWeights(graph), async (session) => {
        const values = await session.read('value', param);
        values[values.length - 1] = Number.NaN;
        await session.write('value', param, values);
        session.attach(loader);
        const result = await session.run({ firstStep: 0, steps: 1, lr: 0.1, ...sgd });
        expect(result, param).toMatchObject({ stepsDone: 0, failure: { step: 0, layer } });
      });
    }
  } finally {
    loader.dispose();
  }
});

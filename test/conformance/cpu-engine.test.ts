/**
 * The cpu engine against the reference engine (float64, plain loops), and against itself: on every instruction set,
 * number of threads, batch size, and sparse beside masked dense.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import { planMemory } from '../../src/engine/create-session.js';
import { native } from '../../src/engine/native.js';
import type { Program, Session, SessionOptions, TensorKind, Values } from '../../src/engine/session.js';
import { type Graph, GraphBuilder } from '../../src/graph/index.js';
import type { GraphNode } from '../../src/graph/types.js';
import { type Mask, packValues, unpackValues } from '../../src/masks/mask.js';
import { bottleneckGraph } from '../helpers/bottleneck.js';
import { l2, relative, withSession } from '../helpers/engines.js';
import { everyOpGraph, everyOpMasks, everyOpWeights } from '../helpers/every-op.js';
import { hashUniform, hashValues, makeMask } from '../helpers/golden.js';
import { randomGraph } from '../helpers/random-graph.js';

const programs: readonly Program[] = ['train', 'eval', 'inputGradient', 'tangent'];
const isas: string[] = native().session.cpu().isas;
const allThreads = [1, 2, 3];
const classes = 5;

/** Both engines get the very same numbers. */
const rounded = (values: Float64Array) => values.map(Math.fround);

function batchOf(graph: Graph, n: number, seed = 1) {
  const images = rounded(hashValues(seed, n * graph.input[0] * graph.input[1] * graph.input[2]));
  const labels = Int32Array.from({ length: n }, (_, i) => (i * 7 + seed) % graph.classes);
  return { images, floats: Float32Array.from(images), labels };
}

function masksOf(graph: Graph, density: number): (Mask | null)[] {
  return graph.params.map(({ shape, numel, prunable }, i) => {
    const uniforms = hashUniform(200 + i, numel);
    return prunable && density < 1 ? makeMask(shape, (j) => uniforms[j]! < density) : null;
  });
}

async function readAll(session: Session, kind: TensorKind): Promise<Values[]> {
  const tensors = kind === 'running' ? session.graph.buffers : session.graph.params;
  return Promise.all(tensors.map(({ name }) => session.read(kind, name)));
}

/**
 * ‖got - expected‖ / ‖expected‖, the denominator being at least `floorShare` of the largest norm: a gradient whose
 * exact value cancels (batch norm after batch norm) keeps the rounding of the terms that cancel.
 */
function expectClose(
  got: Values[],
  expected: Values[],
  bound: number,
  names: { name: string }[],
  floorShare: number,
) {
  const floor = floorShare * Math.max(...expected.map(l2), 1e-30);
  for (const [i, values] of got.entries()) {
    const error = l2(values.map((v, j) => v - expected[i]![j]!)) / Math.max(l2(expected[i]!), floor);
    expect(error, names[i]!.name).toBeLessThanOrEqual(bound);
  }
}

async function writeDirections(session: Session, kept: Values[]): Promise<void> {
  for (const [i, { name }] of session.graph.params.entries()) {
    const direction = rounded(hashValues(300 + i, kept[i]!.length, 0.3));
    await session.write(
      'direction',
      name,
      session.engine === 'cpu' ? Float32Array.from(direction) : direction,
    );
  }
}

interface Outcome {
  readonly losses: number[];
  readonly correct: number[];
  readonly gradient: Values[];
  readonly tangentGradient: Values[];
  readonly tangent: Values[];
  readonly logits: Values;
  readonly dx: Values;
  readonly running: Values[];
}

/** Everything that a session computes on one batch. */
async function outcome(session: Session, n: number): Promise<Outcome> {
  const { images, floats, labels } = batchOf(session.graph, n);
  const x = session.engine === 'cpu' ? floats : images;
  const loss = { labelSmoothing: 0.1, logitScale: 0.7 };
  const inputScale = Array.from({ length: session.graph.input[0] }, (_, c) => 1 + c);
  const train = await session.gradient(x, labels, { ...loss, weight: 0.5 });
  const gradient = await readAll(session, 'gradient');
  await writeDirections(session, gradient);
  const tangent = await session.tangent(x, labels, { ...loss, updateRunningStats: false });
  const tangentGradient = await readAll(session, 'gradient');
  const evaluated = await session.evaluate(x, labels, loss);
  const input = await session.inputGradient(x, labels, { ...loss, inputScale });
  const results = [train, tangent, evaluated, input];
  return {
    losses: results.flatMap((result) => [result.loss, result.nll]),
    correct: results.map((result) => result.correct),
    gradient,
    tangentGradient,
    tangent: await readAll(session, 'gradientTangent'),
    logits: evaluated.logits,
    dx: input.gradient,
    running: await readAll(session, 'running'),
  };
}

const weightsOf = (graph: Graph) =>
  graph.params.map(({ kind, numel, shape }, i) => {
    const scale = kind === 'conv' || kind === 'linear' ? Math.sqrt((2 * shape[0]!) / numel) : 0.3;
    return rounded(hashValues(100 + i, numel, scale).map((v) => v + (kind === 'gamma' ? 1 : 0)));
  });

function outcomeOf(engine: 'cpu' | 'reference', options: Omit<SessionOptions, 'engine'>, n: number) {
  return withSession({ ...options, engine }, weightsOf(options.graph), (session) => outcome(session, n));
}

async function expectReference(
  options: Omit<SessionOptions, 'engine'>,
  n: number,
  bound: number,
  floor = 1e-3,
) {
  const got = await outcomeOf('cpu', options, n);
  const expected = await outcomeOf('reference', options, n);
  const { params, buffers } = options.graph;
  for (const [i, loss] of got.losses.entries())
    expect(relative(loss, expected.losses[i]!, 1)).toBeLessThan(1e-5);
  expect(got.correct).toEqual(expected.correct);
  expectClose(got.gradient, expected.gradient, bound, [...params], floor);
  expectClose(got.tangentGradient, expected.tangentGradient, bound, [...params], floor);
  expectClose(got.tangent, expected.tangent, 10 * bound, [...params], floor);
  expectClose([got.logits], [expected.logits], bound, [{ name: 'logits' }], floor);
  expectClose([got.dx], [expected.dx], bound, [{ name: 'd image' }], floor);
  expectClose(got.running, expected.running, bound, [...buffers], floor);
}

async function expectSameTraining(
  graph: Graph,
  masks: (Mask | null)[],
  threads: number,
  name: string,
): Promise<void> {
  const train = async (programs: readonly Program[]) => {
    const options = { graph, masks, engine: 'cpu', programs, batchSize: 64, threads } as const;
    return withSession(options, weightsOf(graph), async (session) => {
      const outcomes = [];
      // The second in what the first left behind, on fewer blocks of images.
      for (const n of [61, 23]) {
        const { floats, labels } = batchOf(graph, n);
        const result = await session.gradient(floats, labels, { weight: 1 });
        const gradient = await readAll(session, 'gradient');
        outcomes.push({ result, gradient, running: await readAll(session, 'running') });
      }
      return outcomes;
    });
  };
  expect(await train(['train', 'eval']), name).toEqual(await train(programs));
}

function graphOf(build: (g: GraphBuilder) => GraphNode, side = 9): Graph {
  const g = new GraphBuilder('kind', [3, side, side]);
  return g.build(g.linear(g.globalAvgPool(build(g)), { out: classes, name: 'fc' }));
}

const kinds: Record<string, Graph> = {
  'conv 3x3': graphOf((g) => g.conv(g.input, { out: 17, kernel: 3 })),
  'conv 3x3, stride 2': graphOf((g) => g.conv(g.input, { out: 8, kernel: 3, stride: 2 })),
  'conv 1x1, stride 2': graphOf((g) => g.conv(g.input, { out: 6, kernel: 1, stride: 2, padding: 0 })),
  'conv 7x7, stride 2': graphOf((g) => g.conv(g.input, { out: 6, kernel: 7, stride: 2 })),
  'two convs with nothing between': graphOf((g) =>
    g.conv(g.conv(g.input, { out: 4, kernel: 3 }), { out: 5, kernel: 3 }),
  ),
  'conv, batch norm, ReLU': graphOf((g) =>
    g.convBnRelu(g.convBnRelu(g.input, { out: 16, kernel: 3 }), { out: 8, kernel: 3 }),
  ),
  'batch norm without ReLU': graphOf((g) => g.convBn(g.input, { out: 70, kernel: 3 })),
  'batch norm of the image': graphOf((g) => g.batchNorm(g.input)),
  'ReLU without batch norm': graphOf((g) => g.relu(g.conv(g.input, { out: 6, kernel: 3 }))),
  'identity residual': graphOf((g) => {
    const x = g.convBnRelu(g.input, { out: 6, kernel: 3 });
    return g.conv(g.relu(g.add(g.convBn(x, { out: 6, kernel: 3 }), x)), { out: 4, kernel: 3 });
  }),
  // The last convolution's input gradient takes its output's place (programs 'train' and 'eval' alone).
  'basic block': graphOf((g) => {
    const x = g.convBnRelu(g.input, { out: 6, kernel: 3 });
    const y = g.convBnRelu(x, { out: 6, kernel: 3 });
    return g.relu(g.add(g.convBn(y, { out: 6, kernel: 3 }), x));
  }),
  'projected residual': graphOf((g) => {
    const x = g.convBnRelu(g.input, { out: 4, kernel: 3 });
    const short = g.convBn(x, { out: 6, kernel: 1, stride: 2, padding: 0 });
    return g.relu(g.add(g.convBn(x, { out: 6, kernel: 3, stride: 2 }), short));
  }),
  'a value added to itself and to its batch norm': graphOf((g) => {
    const x = g.conv(g.input, { out: 6, kernel: 3 });
    return g.add(g.add(x, x), g.relu(g.add(g.batchNorm(x), x)));
  }),
  'overlapping max pool': graphOf((g) =>
    g.maxPool(g.convBn(g.input, { out: 5, kernel: 3 }), { kernel: 3, stride: 2, padding: 1 }),
  ),
  'max pool with gaps': graphOf((g) =>
    g.maxPool(g.convBn(g.input, { out: 5, kernel: 3 }), { kernel: 2, stride: 3 }),
  ),
  // What these pools read is stored nowhere, nor, of windows side by side, its gradient. On 9x9 the last row and column
  // lie in no window.
  'max pools of batch norm and ReLU': graphOf((g) => {
    const x = g.convBnRelu(g.convBnRelu(g.input, { out: 6, kernel: 3 }), { out: 7, kernel: 3 });
    const y = g.convBnRelu(g.maxPool(x, { kernel: 2, stride: 2 }), { out: 6, kernel: 3 });
    return g.convBnRelu(g.maxPool(y, { kernel: 2, stride: 2 }), { out: 4, kernel: 1 });
  }),
  'overlapping max pool of batch norm and ReLU': graphOf((g) =>
    g.maxPool(g.convBnRelu(g.input, { out: 5, kernel: 3 }), { kernel: 3, stride: 2, padding: 1 }),
  ),
  'average pool': graphOf((g) =>
    g.avgPool(g.convBn(g.input, { out: 5, kernel: 3 }), { kernel: 3, stride: 2 }),
  ),
  'linear on a map': graphOf((g) => g.relu(g.linear(g.convBn(g.input, { out: 4, kernel: 3 }), { out: 9 }))),
};

afterEach(() => {
  delete process.env.RP_CPU_ISA;
});

describe.each(isas)('%s against the reference', (isa) => {
  const check = (graph: Graph, density: number, n: number) => {
    process.env.RP_CPU_ISA = isa;
    return expectReference({ graph, masks: masksOf(graph, density), programs, batchSize: 125 }, n, 1e-5);
  };

  // Dense at 125, one image has two window entries of these pools within rounding of each other: float32 and float64 may
  // then rightly choose different ones. Their two densities change places; every other kind keeps them.
  test.each(Object.entries(kinds))('%s', async (kind, graph) => {
    const tied = kind.startsWith('overlapping max pool');
    await check(graph, tied ? 1 : 0.5, 72);
    await check(graph, tied ? 0.5 : 1, 125);
  });

  // With other programs beside it, every input gradient has memory and a layout of its own.
  test('training alone gives the same bits as beside other programs', async () => {
    process.env.RP_CPU_ISA = isa;
    for (const [kind, graph] of [...Object.entries(kinds), ['bottlenecks', bottleneckGraph()] as const]) {
      for (const threads of allThreads) await expectSameTraining(graph, masksOf(graph, 0.3), threads, kind);
    }
  });

  test('is the instruction set that runs', async () => {
    process.env.RP_CPU_ISA = isa;
    const graph = everyOpGraph();
    await withSession({ graph, engine: 'cpu', batchSize: 4 }, everyOpWeights(graph), async (session) => {
      expect(JSON.parse(session.plan).isa).toBe(isa);
    });
  });
});

// Beyond 32 MB elementwise passes write a new tensor past the caches: 64 channels of 64x64, two blocks of images. No
// ReLU: of so many values one is within rounding of zero, where float32 and float64 may rightly differ.
test('large activations equal the reference on every instruction set', async () => {
  const graph = graphOf((g) => {
    const x = g.convBn(g.input, { out: 64, kernel: 1 });
    return g.add(g.convBn(x, { out: 64, kernel: 1 }), x);
  }, 64);
  const masks = masksOf(graph, 0.1);
  const gradientOf = (engine: 'cpu' | 'reference') =>
    withSession(
      { graph, masks, engine, programs: ['train'], batchSize: 17 },
      weightsOf(graph),
      async (session) => {
        const { images, floats, labels } = batchOf(graph, 17);
        const { loss } = await session.gradient(engine === 'cpu' ? floats : images, labels, { weight: 1 });
        return { loss, gradient: await readAll(session, 'gradient') };
      },
    );
  const expected = await gradientOf('reference');
  for (const isa of isas) {
    process.env.RP_CPU_ISA = isa;
    const got = await gradientOf('cpu');
    expect(relative(got.loss, expected.loss, 1)).toBeLessThan(1e-5);
    // But for the convolutions' weights, whose sums of 70,000 terms cancel: conv.test.ts bounds those by their magnitude.
    const compared = graph.params.flatMap(({ kind }, i) => (kind === 'conv' ? [] : [i]));
    const of = (gradient: Values[]) => compared.map((i) => gradient[i]!);
    const names = compared.map((i) => graph.params[i]!);
    expectClose(of(got.gradient), of(expected.gradient), 2e-5, names, 1);
  }
});

// Parts of the rows, blocks that are not full, and tensors that are made in turns and stored nowhere.
test.each(isas)('rows that are cut into parts equal the reference on %s', async (isa) => {
  process.env.RP_CPU_ISA = isa;
  const graph = bottleneckGraph();
  await expectReference({ graph, masks: masksOf(graph, 0.1), programs, batchSize: 32 }, 23, 2e-5);
});

test('rows of sparse 1x1 convolutions are cut, and others are not', async () => {
  const graph = bottleneckGraph();
  const cutAt = (density: number) =>
    withSession(
      { graph, masks: masksOf(graph, density), engine: 'cpu', batchSize: 32, measure: true },
      weightsOf(graph),
      async (session) => {
        const layers: { name: string; key: string }[] = JSON.parse(session.plan).layers;
        return layers.filter(({ key }) => key.includes(' on 4x7;')).map(({ name }) => name);
      },
    );
  const pointwise = graph.params.filter(({ shape, kind }) => kind === 'conv' && shape[2] === 1);
  expect(await cutAt(0.1)).toEqual(pointwise.map(({ name }) => name));
  expect(await cutAt(1)).toEqual([]);
});

test('random graphs train alone to the same bits as beside other programs', async () => {
  const property = fc.asyncProperty(
    randomGraph,
    fc.constantFrom(1, 0.5, 0.05),
    fc.constantFrom(...allThreads),
    (graph, density, threads) => expectSameTraining(graph, masksOf(graph, density), threads, ''),
  );
  await fc.assert(property, { numRuns: 40, seed: 20221 });
});

test('random graphs equal the reference', async () => {
  const property = fc.asyncProperty(
    randomGraph,
    fc.integer({ min: 2, max: 40 }),
    fc.constantFrom(1, 0.5, 0.05),
    fc.constantFrom(...isas),
    async (graph, n, density, isa) => {
      process.env.RP_CPU_ISA = isa;
      await expectReference({ graph, masks: masksOf(graph, density), programs, batchSize: 40 }, n, 1e-5, 1);
    },
  );
  await fc.assert(property, { numRuns: 60, seed: 20220 });
});

describe('cpu engine', () => {
  const graph = everyOpGraph();
  const masks = everyOpMasks(graph);

  test.each([
    ['every op', graph, masks, 125, 72],
    ['bottlenecks', bottleneckGraph(), masksOf(bottleneckGraph(), 0.1), 32, 23],
  ] as const)('neither threads nor what ran before change a bit: %s', async (_, graph, masks, most, n) => {
    const alone = await outcomeOf('cpu', { graph, masks, programs, batchSize: most, threads: 1 }, n);
    for (const threads of allThreads) {
      const options = { graph, masks, programs, batchSize: most, threads };
      const after = await withSession({ ...options, engine: 'cpu' }, weightsOf(graph), async (session) => {
        const running = await readAll(session, 'running');
        await outcome(session, most);
        for (const [i, { name }] of graph.buffers.entries())
          await session.write('running', name, running[i]!);
        return outcome(session, n);
      });
      expect(after).toEqual(alone);
    }
  });

  test('statistics keep their digits where the mean is a thousand times the deviation', async () => {
    const far = graphOf((g) => g.batchNorm(g.input));
    const n = 72;
    const { images, labels } = batchOf(far, n);
    const shifted = rounded(images.map((v, i) => v + [1000, -3000, 0][Math.floor(i / 81) % 3]!));
    const results = [];
    for (const engine of ['cpu', 'reference'] as const) {
      const weights = everyOpWeights(far).map(rounded);
      results.push(
        await withSession({ graph: far, engine, batchSize: n }, weights, async (session) => {
          await session.gradient(engine === 'cpu' ? Float32Array.from(shifted) : shifted, labels);
          return { gradient: await readAll(session, 'gradient'), running: await readAll(session, 'running') };
        }),
      );
    }
    const [got, expected] = results;
    expectClose(got!.running, expected!.running, 1e-6, [...far.buffers], 0);
    expectClose(got!.gradient, expected!.gradient, 1e-5, [...far.params], 1e-3);
  });

  test('of equal values in a window the first in row-major order takes the gradient', async () => {
    const g = new GraphBuilder('ties', [2, 7, 7]);
    const pooled = g.maxPool(g.input, { kernel: 3, stride: 2, padding: 1 });
    const ties = g.build(g.linear(pooled, { out: classes, name: 'fc' }));
    const images = hashUniform(9, 20 * 98).map((u) => Math.floor(3 * u));
    const labels = Int32Array.from({ length: 20 }, (_, i) => i % classes);
    const gradients = [];
    for (const engine of ['cpu', 'reference'] as const) {
      const options = { graph: ties, engine, batchSize: 20, programs: ['inputGradient'] } as const;
      gradients.push(
        await withSession(options, everyOpWeights(ties).map(rounded), async (session) => {
          const x = engine === 'cpu' ? Float32Array.from(images) : images;
          return (await session.inputGradient(x, labels)).gradient;
        }),
      );
    }
    const [got, expected] = gradients;
    expect(Array.from(got!, (v) => v !== 0)).toEqual(Array.from(expected!, (v) => v !== 0));
    expectClose([got!], [expected!], 1e-5, [{ name: 'd image' }], 0);
  });

  test('a sparse network trains as its masked dense twin, step by step', async () => {
    const g = new GraphBuilder('twin', [3, 12, 12]);
    let x = g.convBnRelu(g.input, { out: 8, kernel: 3 });
    x = g.relu(g.add(x, g.convBn(x, { out: 8, kernel: 3 })));
    const twin = g.build(g.linear(g.globalAvgPool(x), { out: classes, name: 'fc' }));
    const kept = masksOf(twin, 0.3);
    const weights = twin.params.map(({ numel, kind }, i) =>
      rounded(hashValues(i, numel, 0.3).map((v) => v + (kind === 'gamma' ? 1 : 0))),
    );
    const masked = weights.map((values, i) => {
      const mask = kept[i];
      return mask ? (unpackValues(packValues(values, mask), mask, values.length) as Float64Array) : values;
    });
    const options = {
      graph: twin,
      engine: 'cpu',
      batchSize: 20,
      weightDecay: twin.params.map(() => 5e-4),
    } as const;
    await withSession({ ...options, masks: kept }, weights, (sparse) =>
      withSession(options, masked, async (dense) => {
        for (let step = 0; step < 5; step++) {
          const { floats, labels } = batchOf(twin, 20, 40 + step);
          const sgd = { lr: 0.05, momentum: 0.9, nesterov: true };
          const a = await sparse.step(floats, labels, sgd);
          const b = await dense.step(floats, labels, sgd);
          expect(relative(a.loss, b.loss)).toBeLessThan(1e-6);
          for (const [i, { name, numel }] of twin.params.entries()) {
            const mask = kept[i] ?? null;
            const full = await dense.read('value', name);
            const expected = mask ? packValues(full, mask) : full;
            const got = await sparse.read('value', name);
            const error = l2(got.map((v, j) => v - expected[j]!));
            expect(error, `${name} after step ${step}`).toBeLessThan(1e-5 * Math.max(l2(expected), 1));
            // The code masks after every step.
            if (mask) await dense.write('value', name, unpackValues(expected, mask, numel));
          }
        }
      }),
    );
  });

  test('a plan is replayed, and refused for another model', async () => {
    const weights = everyOpWeights(graph);
    const options = { graph, masks, engine: 'cpu', batchSize: 8 } as const;
    const plan = await withSession(options, weights, async (session) => session.plan);
    const layers = graph.params.filter(({ prunable }) => prunable).map(({ name }) => name);
    expect(JSON.parse(plan).layers.map(({ name }: { name: string }) => name)).toEqual(layers);
    expect(await withSession({ ...options, plan }, weights, async (session) => session.plan)).toBe(plan);

    const other = buildModel('resnet8', { classes }).graph;
    const refused = (text: string) =>
      withSession(
        { graph: other, engine: 'cpu', batchSize: 8, plan: text },
        everyOpWeights(other),
        async () => {},
      );
    await expect(refused(plan)).rejects.toThrow(
      /\[plan\] expected \d+ layers, got a plan of 6: it was made for another model/,
    );
    await expect(refused('{"engine": "cpu"')).rejects.toThrow(/\[plan\] expected '}' at byte 16/);
  });

  test('a program that was not planned, its tensors and a wrong label are errors', () =>
    withSession(
      { graph, engine: 'cpu', batchSize: 8, programs: ['eval'] },
      everyOpWeights(graph),
      async (session) => {
        const { floats, labels } = batchOf(graph, 8);
        await expect(session.gradient(floats, labels)).rejects.toThrow(/'train'/);
        await expect(session.read('momentum', graph.params[0]!.name)).rejects.toThrow(/'train'/);
        await expect(session.evaluate(floats, labels.fill(classes))).rejects.toThrow(/label/);
      },
    ));

  test('a sparse network plans less memory for its parameters, and no activations more', () => {
    const { graph: wide } = buildModel('resnet20', { classes: 10 });
    const plan = (density: number) =>
      planMemory({ graph: wide, masks: masksOf(wide, density), engine: 'cpu', batchSize: 128, threads: 2 });
    const dense = plan(1);
    const sparse = plan(0.1);
    expect(sparse.parameters).toBeLessThan(0.5 * dense.parameters);
    expect(sparse.activations).toBeLessThan(1.02 * dense.activations);
    expect(sparse.total).toBe(sparse.activations + sparse.parameters);
  });
});

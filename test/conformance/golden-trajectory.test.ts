/**
 * train_traj_resnet20.json: four steps of masked Nesterov SGD at ERK 0.9, then an evaluation, against the official
 * code with dense tensors and a mask (SPEC 3.4, 9). Sparse storage must give the same active weights.
 *
 * The trajectory is ill-conditioned from its third step on: weights that differ by a rounding put activations on the
 * other side of a ReLU. Rounding the first weights and the images to float32 moves the float64 engine's own fourth
 * loss by 1.4e-4 and its gradient norms by 1e-2, so no float32 engine can keep SPEC 9's 1e-4 there. What rounding
 * alone does is therefore measured, and a float32 engine is allowed four times that where it is more than SPEC 9's.
 *
 * One activation of the first step lies so near zero that float32's rounding decides its ReLU: in 6 of 60 runs with
 * random tiles, which set the order of sums, it fell to the other side. That moves a gradient by 1.3 % and the second
 * loss by 3e-4. Tiles chosen by the model follow from the machine's caches, so a float32 engine is given fixed ones.
 */
import { describe, expect, test } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import { createSession } from '../../src/engine/create-session.js';
import type { EngineName, Session, SessionOptions, Values } from '../../src/engine/session.js';
import { prunableLayers } from '../../src/graph/index.js';
import type { ParamKind } from '../../src/graph/types.js';
import { unpackValues } from '../../src/masks/mask.js';
import {
  engines,
  l2,
  logProbabilities,
  relative,
  sum,
  tolerances,
  valuesFor,
  withSession,
} from '../helpers/engines.js';
import { golden, goldenLabels, goldenMasks, goldenWeights, hashValues } from '../helpers/golden.js';

const { graph } = buildModel('resnet20');
const layers = prunableLayers(graph);
const expected = golden('train_traj_resnet20');
const masks = goldenMasks(graph, expected.density);
const n = 8;

test('the masks are those of the golden run', () => {
  expect(layers.map(({ param }) => masks[param]!.nnz)).toEqual(expected.nnz);
});

interface Step {
  readonly loss: number;
  /** Norms and sums by what they are of. */
  readonly figures: Record<string, number>;
}
interface Trajectory {
  readonly steps: readonly Step[];
  readonly logProbs: readonly (readonly number[])[];
}

function figures(of: {
  dense: number;
  mean: number;
  global: number;
  gradients: readonly number[];
  weights: readonly number[];
  gamma: number;
  beta: number;
  bias: ArrayLike<number>;
  runningMean: number;
  runningVar: number;
}): Record<string, number> {
  return {
    'gradient norm, pruned positions too': of.dense,
    'mean of gradient norms': of.mean,
    'global gradient norm': of.global,
    ...Object.fromEntries(layers.map(({ name }, l) => [`gradient norm of ${name}`, of.gradients[l]!])),
    ...Object.fromEntries(layers.map(({ name }, l) => [`norm of ${name}`, of.weights[l]!])),
    'sum of gammas': of.gamma,
    'sum of betas': of.beta,
    ...Object.fromEntries(Array.from(of.bias, (value, c) => [`fc.bias ${c}`, value])),
    'sum of running means': of.runningMean,
    'sum of running variances': of.runningVar,
  };
}

const goldenTrajectory: Trajectory = {
  // biome-ignore lint/suspicious/noExplicitAny: as golden() gives it.
  steps: expected.steps.map((step: any) => ({
    loss: step.loss,
    figures: figures({
      dense: step.grad_l2_all_prunable_dense,
      mean: step.egf_layer_mean_l2,
      global: step.egf_global_l2,
      gradients: step.masked_grad_l2_per_layer,
      weights: step.weight_l2_per_layer_after,
      gamma: step.bn_gamma_sum_after,
      beta: step.bn_beta_sum_after,
      bias: step.fc_bias_after,
      runningMean: step.running_mean_sum_after,
      runningVar: step.running_var_sum_after,
    }),
  })),
  logProbs: expected.eval_log_probs,
};

const readAll = (session: Session, kind: 'value' | 'gradient'): Promise<Values[]> =>
  Promise.all(graph.params.map(({ name }) => session.read(kind, name)));

async function runningSum(session: Session, ending: string): Promise<number> {
  const buffers = graph.buffers.filter(({ name }) => name.endsWith(ending));
  const sums = await Promise.all(buffers.map(async ({ name }) => sum(await session.read('running', name))));
  return sum(sums);
}

/** `options` with one register tile for every layer, one that every instruction set has. */
async function withFixedTile(options: SessionOptions): Promise<SessionOptions> {
  if (options.engine === 'reference') return options;
  const session = await createSession(options);
  const plan = JSON.parse(session.plan);
  await session.dispose();
  for (const layer of plan.layers) layer.choice = layer.choice.replace(/=\S+/g, '=1x4/16');
  return { ...options, plan: JSON.stringify(plan) };
}

/** The golden run on `engine`, from weights and images that `round` has seen. */
async function train(engine: EngineName, round: (values: Float64Array) => Float64Array): Promise<Trajectory> {
  const weights = goldenWeights(graph).map(round);
  const images = (stream: number) => valuesFor(engine, round(hashValues(stream, n * 3072)));
  const options = { graph, engine, batchSize: n };
  const weightDecay = graph.params.map(() => 5e-4);
  const kindSum = (values: readonly Values[], kind: ParamKind) =>
    sum(values.filter((_, i) => graph.params[i]!.kind === kind).map(sum));

  const sparseOptions = await withFixedTile({ ...options, masks, weightDecay });
  const denseOptions = await withFixedTile({ ...options, programs: ['train'] });
  return withSession(sparseOptions, weights, (sparse) =>
    withSession(denseOptions, weights, async (dense) => {
      const steps: Step[] = [];
      for (const { step } of expected.steps) {
        const batch = images(4000 + step);
        const labels = goldenLabels(n, step, 10);
        // The dense network at the masked weights: gradients of pruned positions too.
        for (const [i, values] of (await readAll(sparse, 'value')).entries()) {
          const { name, numel } = graph.params[i]!;
          await dense.write('value', name, unpackValues(values, masks[i] ?? null, numel));
        }
        await dense.gradient(batch, labels);
        const denseGradients = await readAll(dense, 'gradient');

        const { loss } = await sparse.gradient(batch, labels);
        const sparseGradients = await readAll(sparse, 'gradient');
        await sparse.update({ lr: 0.1, momentum: 0.9, nesterov: true });
        const values = await readAll(sparse, 'value');
        const gradients = layers.map(({ param }) => l2(sparseGradients[param]!));
        steps.push({
          loss,
          figures: figures({
            dense: l2(layers.map(({ param }) => l2(denseGradients[param]!))),
            mean: sum(gradients) / gradients.length,
            global: l2(gradients),
            gradients,
            weights: layers.map(({ param }) => l2(values[param]!)),
            gamma: kindSum(values, 'gamma'),
            beta: kindSum(values, 'beta'),
            bias: values.at(-1)!,
            runningMean: await runningSum(sparse, 'running_mean'),
            runningVar: await runningSum(sparse, 'running_var'),
          }),
        });
      }
      const { logits } = await sparse.evaluate(images(5000), new Int32Array(n));
      return { steps, logProbs: logProbabilities(logits, 10) };
    }),
  );
}

/** Relative deviations of a trajectory from the golden one; of single biases, relative to all of them. */
function deviations(got: Trajectory) {
  const steps = goldenTrajectory.steps.map(({ loss, figures: golden }, i) => {
    const biases = Object.keys(golden).filter((what) => what.startsWith('fc.bias'));
    const rms = l2(biases.map((what) => golden[what]!)) / Math.sqrt(biases.length);
    return {
      loss: relative(got.steps[i]!.loss, loss),
      figures: Object.entries(golden).map(([what, value]) => ({
        what,
        deviation: relative(got.steps[i]!.figures[what]!, value, biases.includes(what) ? rms : 0),
      })),
    };
  });
  const logProbs = goldenTrajectory.logProbs.flatMap((row, i) =>
    row.map((value, c) => relative(got.logProbs[i]![c]!, value, 1)),
  );
  return { steps, logProb: Math.max(...logProbs) };
}

const largest = (step: { figures: readonly { deviation: number }[] }) =>
  Math.max(...step.figures.map(({ deviation }) => deviation));

describe.each(engines)('%s', (engine) => {
  const { loss, norm } = tolerances[engine];

  test('four masked Nesterov steps and an evaluation', async () => {
    const got = deviations(await train(engine, (values) => values));
    // What rounding weights and images to float32 does to the float64 engine; nothing is rounded for itself.
    const rounded =
      engine === 'reference'
        ? null
        : deviations(await train('reference', (v) => Float64Array.from(Float32Array.from(v))));

    for (const [i, step] of got.steps.entries()) {
      const rounding = rounded?.steps[i];
      expect(step.loss, `loss of step ${i}`).toBeLessThan(Math.max(loss, 4 * (rounding?.loss ?? 0)));
      const allowed = Math.max(norm, 4 * (rounding ? largest(rounding) : 0));
      for (const { what, deviation } of step.figures) {
        expect(deviation, `${what}, step ${i}`).toBeLessThan(allowed);
      }
    }
    expect(got.logProb, 'log-probabilities').toBeLessThan(Math.max(norm, 4 * (rounded?.logProb ?? 0)));
  });
});

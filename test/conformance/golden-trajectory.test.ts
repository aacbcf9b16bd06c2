/**
 * train_traj_resnet20.json: four steps of masked Nesterov SGD at ERK 0.9, then an evaluation, against the official
 * code with dense tensors and a mask (SPEC 3.4, 9). Sparse storage must give the same active weights.
 */
import { describe, expect, test } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import type { Session, Values } from '../../src/engine/session.js';
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

async function readAll(session: Session, kind: 'value' | 'gradient'): Promise<Values[]> {
  return Promise.all(graph.params.map(({ name }) => session.read(kind, name)));
}

async function runningSum(session: Session, ending: string): Promise<number> {
  const buffers = graph.buffers.filter(({ name }) => name.endsWith(ending));
  const sums = await Promise.all(buffers.map(async ({ name }) => sum(await session.read('running', name))));
  return sum(sums);
}

describe.each(engines)('%s', (engine) => {
  const allowed = tolerances[engine];
  const close = (got: number, value: number, what: string) =>
    expect(relative(got, value), what).toBeLessThan(allowed.norm);
  const weightDecay = graph.params.map(() => 5e-4);
  const options = { graph, engine, batchSize: n };

  test('four masked Nesterov steps and an evaluation', async () => {
    const weights = goldenWeights(graph);
    await withSession({ ...options, masks, weightDecay }, weights, (sparse) =>
      withSession({ ...options, programs: ['train'] }, weights, async (dense) => {
        const kindSum = (values: Values[], kind: ParamKind) =>
          sum(values.filter((_, i) => graph.params[i]!.kind === kind).map(sum));

        for (const step of expected.steps) {
          const images = valuesFor(engine, hashValues(4000 + step.step, n * 3072));
          const labels = goldenLabels(n, step.step, 10);

          // The dense network at the masked weights: gradients of pruned positions too.
          for (const [i, values] of (await readAll(sparse, 'value')).entries()) {
            await dense.write(
              'value',
              graph.params[i]!.name,
              unpackValues(values, masks[i] ?? null, graph.params[i]!.numel),
            );
          }
          await dense.gradient(images, labels);
          const denseGradients = await readAll(dense, 'gradient');
          close(
            l2(layers.map(({ param }) => l2(denseGradients[param]!))),
            step.grad_l2_all_prunable_dense,
            'dense',
          );

          const { loss } = await sparse.gradient(images, labels);
          expect(relative(loss, step.loss), 'loss').toBeLessThan(allowed.loss);
          const gradients = await readAll(sparse, 'gradient');
          const norms = layers.map(({ param }) => l2(gradients[param]!));
          close(sum(norms) / norms.length, step.egf_layer_mean_l2, 'mean of norms');
          close(l2(norms), step.egf_global_l2, 'global norm');
          for (const [l, { name }] of layers.entries())
            close(norms[l]!, step.masked_grad_l2_per_layer[l], name);

          await sparse.update({ lr: 0.1, momentum: 0.9, nesterov: true });
          const values = await readAll(sparse, 'value');
          for (const [l, { name, param }] of layers.entries()) {
            close(l2(values[param]!), step.weight_l2_per_layer_after[l], `${name} after`);
          }
          close(kindSum(values, 'gamma'), step.bn_gamma_sum_after, 'gamma');
          close(kindSum(values, 'beta'), step.bn_beta_sum_after, 'beta');
          const bias = values.at(-1)!;
          const biasScale = l2(bias) / Math.sqrt(bias.length);
          for (const [c, value] of step.fc_bias_after.entries()) {
            expect(relative(bias[c]!, value, biasScale), `fc.bias ${c}`).toBeLessThan(allowed.norm);
          }
          close(await runningSum(sparse, 'running_mean'), step.running_mean_sum_after, 'running mean');
          close(await runningSum(sparse, 'running_var'), step.running_var_sum_after, 'running variance');
        }

        const images = valuesFor(engine, hashValues(5000, n * 3072));
        const { logits } = await sparse.evaluate(images, new Int32Array(n));
        for (const [i, row] of logProbabilities(logits, 10).entries()) {
          for (const [c, logP] of row.entries()) {
            const value = expected.eval_log_probs[i][c];
            expect(relative(logP, value, 1), `image ${i} class ${c}`).toBeLessThan(allowed.norm);
          }
        }
      }),
    );
  });
});

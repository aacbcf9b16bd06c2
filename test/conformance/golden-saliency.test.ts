/**
 * snip_*.json and grasp_*.json: the paper's criteria on ResNet-20 as the official code computes them in float64 (SPEC
 * 2.5, 2.6, 9): losses, gradients, Hessian-gradient products, scores, and the weights each layer keeps at nine densities.
 */
import { describe, expect, test } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import type { Batch, EngineName, Session, TensorKind, Values } from '../../src/engine/session.js';
import { prunableLayers } from '../../src/graph/index.js';
import { layerDensities } from '../../src/ratios/index.js';
import { measureGrasp, measureSnip, splitBatch } from '../../src/training/saliency.js';
import { engines, l2, relative, sum, tolerances, valuesFor, withSession } from '../helpers/engines.js';
import { golden, goldenWeights, hashValues } from '../helpers/golden.js';

const { graph } = buildModel('resnet20');
const layers = prunableLayers(graph);

interface Statistics {
  readonly sum: number;
  readonly abs_sum: number;
  readonly l2: number;
  readonly first3: readonly number[];
}

/** Norms relative to themselves; sums and elements, which may cancel, relative to the layer's size. */
function expectStatistics(got: Values, expected: Statistics, tolerance: number, what: string): void {
  const rms = expected.l2 / Math.sqrt(got.length);
  expect(relative(l2(got), expected.l2), `${what} l2`).toBeLessThan(tolerance);
  expect(relative(sum(got.map(Math.abs)), expected.abs_sum), `${what} abs_sum`).toBeLessThan(tolerance);
  expect(relative(sum(got), expected.sum, expected.abs_sum), `${what} sum`).toBeLessThan(tolerance);
  for (const [i, value] of expected.first3.entries()) {
    expect(relative(got[i]!, value, rms), `${what} element ${i}`).toBeLessThan(tolerance);
  }
}

async function expectLayers(
  session: Session,
  kind: TensorKind,
  expected: readonly Statistics[],
  tolerance: number,
): Promise<void> {
  for (const [l, { name }] of layers.entries()) {
    expectStatistics(await session.read(kind, name), expected[l]!, tolerance, `${name} ${kind}`);
  }
}

interface KeptCounts {
  readonly density_target: number;
  readonly kept_total: number;
  readonly kept_per_layer: readonly number[];
  readonly density_per_layer: readonly number[];
}

function expectKept(
  policy: string,
  scores: readonly Values[],
  results: readonly KeptCounts[],
  tolerance: number,
): void {
  expect(results.length).toBe(9);
  for (const { density_target: density, kept_per_layer, density_per_layer, kept_total } of results) {
    const densities = layerDensities({ policy, layers, density, scores });
    let total = 0;
    for (const [l, { name, numel }] of layers.entries()) {
      const kept = Math.round(densities[l]! * numel);
      total += kept;
      expect(Math.abs(kept - kept_per_layer[l]!), `${name} at ${density}`).toBeLessThanOrEqual(tolerance);
      if (tolerance === 0)
        expect(densities[l], `${name} at ${density}`).toBeCloseTo(density_per_layer[l]!, 12);
    }
    // The total has a count of its own to meet; only equal scores at the threshold (float32) may add to it.
    expect(Math.abs(total - kept_total), `all layers at ${density}`).toBeLessThanOrEqual(tolerance);
  }
}

function batchOf(engine: EngineName, labels: readonly number[]): Batch {
  return {
    images: valuesFor(engine, hashValues(1000, labels.length * 3072)),
    labels: Int32Array.from(labels),
  };
}

describe.each(engines)('%s', (engine) => {
  const allowed = tolerances[engine];

  test.each(['snip_kaiming_hash', 'snip_xavier_hash'])('%s', async (file) => {
    const expected = golden(file);
    const options = { graph, engine, batchSize: expected.N, programs: ['train'] as const };
    await withSession(options, goldenWeights(graph, expected.scale), async (session) => {
      const { scores, sets } = await measureSnip(session, batchOf(engine, expected.labels));
      expect(sets.map(({ images, chunks }) => ({ images, chunks }))).toEqual([{ images: 8, chunks: [8] }]);
      expect(relative(sets[0]!.loss, expected.loss_value)).toBeLessThan(allowed.loss);
      expect(relative(sum(scores.map(sum)), expected.score_sum_total)).toBeLessThan(allowed.norm);
      for (const [l, { name }] of layers.entries()) {
        expectStatistics(scores[l]!, expected.layers[l].score, allowed.norm, `${name} score`);
      }
      await expectLayers(
        session,
        'gradient',
        expected.layers.map((layer: { grad: Statistics }) => layer.grad),
        allowed.norm,
      );
      expectKept('snip', scores, expected.results, allowed.count);

      const mean = await session.read('running', 'bn.running_mean');
      expect(l2(mean), 'running statistics untouched').toBe(0);
    });
  });

  test('grasp_batch8_hash', async () => {
    const expected = golden('grasp_batch8_hash');
    const options = { graph, engine, batchSize: 4, programs: ['train', 'tangent'] as const };
    await withSession(options, goldenWeights(graph), async (session) => {
      const halves = splitBatch(batchOf(engine, expected.labels), 2);
      const { scores, sets } = await measureGrasp(session, halves, { temperature: expected.T });
      for (const [half, { loss, images }] of sets.entries()) {
        expect(images).toBe(4);
        expect(relative(loss, expected.losses[half])).toBeLessThan(allowed.loss);
      }
      for (const [l, { name }] of layers.entries()) {
        expectStatistics(scores[l]!, expected.layers[l].score, allowed.norm, `${name} score`);
      }
      type Layer = { grad: Statistics; Hg: Statistics };
      await expectLayers(
        session,
        'gradient',
        expected.layers.map(({ grad }: Layer) => grad),
        allowed.norm,
      );
      await expectLayers(
        session,
        'gradientTangent',
        expected.layers.map(({ Hg }: Layer) => Hg),
        allowed.norm,
      );
      expectKept('grasp', scores, expected.results, allowed.count);

      const mean = await session.read('running', 'bn.running_mean');
      expect(l2(mean), 'running statistics untouched').toBe(0);
    });
  });
});

/** Saliencies of sets larger than a session's batch (docs/decisions/0020-saliency-in-chunks.md), and their limits. */
import { expect, test } from 'vitest';
import type { Batch, Session } from '../../src/engine/session.js';
import { measureGrasp, measureSnip, splitBatch } from '../../src/training/saliency.js';
import { l2, withSession } from '../helpers/engines.js';
import { everyOpGraph, everyOpWeights } from '../helpers/every-op.js';
import { hashValues, makeMask } from '../helpers/golden.js';

const graph = everyOpGraph();
const weights = everyOpWeights(graph);
const prunable = graph.params.flatMap((param, i) => (param.prunable ? [i] : []));
const options = { graph, engine: 'reference', batchSize: 4, programs: ['train', 'tangent'] } as const;
const batch: Batch = { images: hashValues(1, 7 * 243), labels: Int32Array.from([0, 1, 2, 3, 4, 0, 1]) };
const quiet = { updateRunningStats: false };

async function gradients(session: Session): Promise<Float64Array[]> {
  const read = [];
  for (const i of prunable)
    read.push((await session.read('gradient', graph.params[i]!.name)) as Float64Array);
  return read;
}

test('SNIP weighs the gradient of each chunk by its share of the images', () =>
  withSession(options, weights, async (session) => {
    const { scores, sets } = await measureSnip(session, batch, { chunk: 4 });
    const [first, second] = splitBatch(batch, 2) as [Batch, Batch];
    expect(sets[0]!.chunks).toEqual([3, 4]);

    const a = await session.gradient(first.images, first.labels, quiet);
    const ga = await gradients(session);
    const b = await session.gradient(second.images, second.labels, quiet);
    const gb = await gradients(session);
    expect(sets[0]!.loss).toBeCloseTo((3 * a.loss + 4 * b.loss) / 7, 14);
    for (const [l, i] of prunable.entries()) {
      const expected = weights[i]!.map((w, j) => Math.abs((w * (3 * ga[l]![j]! + 4 * gb[l]![j]!)) / 7));
      expect(l2(expected.map((score, j) => score - scores[l]![j]!))).toBeLessThan(1e-14 * l2(expected));
    }
  }));

test("GraSP's Hg is the derivative of the chunked gradient along itself, by the prunable weights alone", () =>
  withSession(options, weights, async (session) => {
    const halves = splitBatch(batch, 2);
    const graspOptions = { chunk: 2, temperature: 2 };
    const { scores, sets } = await measureGrasp(session, halves, graspOptions);
    expect(sets.map(({ chunks }) => chunks)).toEqual([
      [1, 2],
      [2, 2],
    ]);
    const g = await gradients(session);

    // Central differences of the same chunked gradient, from weights moved along g. 1e-7: SPEC 2.6.
    const at = async (step: number) => {
      for (const [l, i] of prunable.entries()) {
        await session.write(
          'value',
          graph.params[i]!.name,
          weights[i]!.map((w, j) => w + step * g[l]![j]!),
        );
      }
      await measureGrasp(session, halves, graspOptions);
      return gradients(session);
    };
    const step = 1e-7;
    const [up, down] = [await at(step), await at(-step)];
    let error = 0;
    let size = 0;
    for (const [l, i] of prunable.entries()) {
      const expected = weights[i]!.map((w, j) => (-w * (up[l]![j]! - down[l]![j]!)) / (2 * step));
      error = Math.hypot(error, l2(expected.map((score, j) => score - scores[l]![j]!)));
      size = Math.hypot(size, l2(expected));
    }
    expect(size).toBeGreaterThan(1e-3);
    expect(error / size).toBeLessThan(1e-5);
  }));

test('a masked network is refused', () => {
  const masks = graph.params.map(({ shape }, i) => (i === 0 ? makeMask(shape, (e) => e > 0) : null));
  return withSession({ ...options, masks }, weights, (session) =>
    expect(measureSnip(session, batch, { chunk: 4 })).rejects.toThrow('conv1.weight'),
  );
});

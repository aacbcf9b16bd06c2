/**
 * Spends a budget in proportion to raw weights, no layer more than dense (SPEC 2.2; Evci et al. 2020, appendix).
 *
 * Densities are p_l = ε·r_l, with ε such that Σ p_l n_l = d·N. Where ε·r_l > 1 that asks for more weights than the
 * layer has, so it becomes dense and the rest share what it leaves:
 *
 *   ε = [ Σ_{l∉S} d·n_l − Σ_{l∈S} (1−d)·n_l ] / Σ_{l∉S} r_l n_l,   S = dense layers
 *
 * Per round only the layers with the largest r_l (equal to the bit) enter S: ε grows with S, so making all that exceed
 * 1 dense at once would give other densities than the paper's code (SPEC 8.3).
 */
import type { PrunableLayer } from '../graph/index.js';

export function fillBudget(
  layers: readonly PrunableLayer[],
  density: number,
  rawWeight: (layer: PrunableLayer) => number,
): number[] {
  // The formula, but for its rounding: a full budget leaves nothing to chance.
  if (density === 1) return layers.map(() => 1);
  const raw = layers.map(rawWeight);
  const dense = new Set<number>();
  for (;;) {
    let budget = 0;
    let share = 0;
    let largest = 0;
    for (const [l, { numel }] of layers.entries()) {
      if (dense.has(l)) {
        budget -= (1 - density) * numel;
      } else {
        budget += density * numel;
        share += raw[l]! * numel;
        largest = Math.max(largest, raw[l]!);
      }
    }
    const epsilon = budget / share;
    if (!(epsilon * largest > 1)) return raw.map((weight, l) => (dense.has(l) ? 1 : epsilon * weight));
    for (const [l, weight] of raw.entries()) if (weight === largest) dense.add(l);
  }
}

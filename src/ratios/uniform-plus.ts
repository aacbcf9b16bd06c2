import { UsageError } from '../errors.js';
import type { PrunableLayer } from '../graph/index.js';
import { classifier, firstConv, type ShapePolicy, totalOf } from './policy.js';

/** The classifier's least density (the paper, section 3.3; Gale et al. 2019). */
export const CLASSIFIER_FLOOR = 0.2;

/**
 * First convolution dense, classifier at least 20 % dense, the rest uniform: as the paper's code computes it, which is
 * what made its figures (SPEC 2.4). For d >= 0.2 nothing pays for the first convolution; below, the divisor is N where
 * the layers that share the budget have N − n_1 − n_L weights.
 */
export const uniformPlus: ShapePolicy = {
  name: 'uniform_plus',
  description:
    "uniform, first convolution dense, classifier at least 0.2, as the paper's code (budget missed by a little)",
  needs: 'shapes',
  breaks: { budget: "as in the paper's code: over by (1−d)·n_1 for d >= 0.2, under by u·(n_1+n_L) below" },
  densities: (layers, density) => {
    const first = firstConv(layers);
    const last = classifier(layers);
    if (density >= CLASSIFIER_FLOOR) return layers.map((_, l) => (l === first ? 1 : density));
    const fixed = fixedWeights(layers, first, last);
    const rest = (density * totalOf(layers) - fixed) / totalOf(layers);
    requireBudget('uniform_plus', rest, density, layers, fixed);
    return layers.map((_, l) => (l === first ? 1 : l === last ? CLASSIFIER_FLOOR : rest));
  },
};

/** n_1 + 0.2·n_L. */
export function fixedWeights(layers: readonly PrunableLayer[], first: number, last: number): number {
  return (layers[first]?.numel ?? 0) + CLASSIFIER_FLOOR * (layers[last]?.numel ?? 0);
}

export function requireBudget(
  name: string,
  rest: number,
  density: number,
  layers: readonly PrunableLayer[],
  fixed: number,
): void {
  if (rest >= 0 && rest <= 1) return;
  const total = totalOf(layers);
  throw new UsageError(
    `--ratio ${name}: density ${density} keeps ${Math.trunc(density * total)} of ${total} weights, but the dense first convolution and 0.2 of the classifier need ${Math.ceil(fixed)}${rest < 0 ? '' : ' and no other layer can take the rest'}. Choose another policy or sparsity.`,
  );
}

import { classifier, firstConv, type ShapePolicy, totalOf } from './policy.js';
import { CLASSIFIER_FLOOR, fixedWeights, requireBudget } from './uniform-plus.js';

/**
 * Ours: the same idea with the budget met (docs/decisions/0014). u = (d·N − n_1) / (N − n_1) for all but the first
 * convolution; where that is below 0.2 the classifier gets 0.2 and the others pay for it.
 */
export const uniformPlusExact: ShapePolicy = {
  name: 'uniform_plus_exact',
  description: 'uniform_plus with the budget met exactly (ours)',
  needs: 'shapes',
  densities: (layers, density) => {
    const first = firstConv(layers);
    const last = classifier(layers);
    const total = totalOf(layers);
    const firstSize = layers[first]?.numel ?? 0;
    if (density === 1) return layers.map(() => 1);
    const share = (density * total - firstSize) / (total - firstSize);
    if (share >= CLASSIFIER_FLOOR) return layers.map((_, l) => (l === first ? 1 : share));
    const fixed = fixedWeights(layers, first, last);
    const free = total - firstSize - (layers[last]?.numel ?? 0);
    const rest = (density * total - fixed) / free;
    requireBudget('uniform_plus_exact', rest, density, layers, fixed);
    return layers.map((_, l) => (l === first ? 1 : l === last ? CLASSIFIER_FLOOR : rest));
  },
};

import { UsageError } from '../errors.js';
import { erk } from './erk.js';
import { classifier, type ShapePolicy, totalOf } from './policy.js';

/**
 * ERK with the classifier held at a density f (`classifierDensity`, default 1) and the rest thinned to the same budget:
 * d' = (d·N − f·n_L) / (N − n_L) by ERK on the other layers. The paper, section 3.3 and figure 14; SPEC 2.3.
 *
 * Differs from the paper's code: a budget that the classifier alone exceeds is refused; there it turns every other
 * layer's density negative, and so empties it.
 */
export const erkPlus: ShapePolicy = {
  name: 'erk_plus',
  description: 'ERK with the classifier dense (or at --classifier-density), same budget (the paper)',
  needs: 'shapes',
  densities: (layers, density, { classifierDensity = 1 }) => {
    if (!(classifierDensity >= 0 && classifierDensity <= 1)) {
      throw new UsageError(`--classifier-density: expected a number in [0, 1], got ${classifierDensity}.`);
    }
    const last = classifier(layers);
    if (last < 0) throw new UsageError('--ratio erk_plus: this network has no linear layer. Use erk.');
    const { numel, name } = layers[last]!;
    const total = totalOf(layers);
    const others = layers.filter((_, l) => l !== last);
    const budget = density * total - classifierDensity * numel;
    if (budget < 0) {
      throw new UsageError(
        `--ratio erk_plus: density ${density} keeps ${Math.trunc(density * total)} of ${total} weights, fewer than the ${Math.ceil(classifierDensity * numel)} of ${name} alone. Lower --classifier-density to ${Math.floor(((density * total) / numel) * 1e4) / 1e4} or less, or the sparsity.`,
      );
    }
    // One part in 1e12 is rounding: at density 1 and f = 1 the two sides are equal.
    if (budget > (total - numel) * (1 + 1e-12)) {
      throw new UsageError(
        `--ratio erk_plus: with ${name} at --classifier-density ${classifierDensity} even dense other layers stay below density ${density}. Raise --classifier-density.`,
      );
    }
    const densities = erk.densities(others, Math.min(1, budget / (total - numel)), {});
    return [...densities.slice(0, last), classifierDensity, ...densities.slice(last)];
  },
};

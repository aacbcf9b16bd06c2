/**
 * Ratio policies: the list, and the way from a policy to one density per prunable layer. Policies return densities;
 * only src/masks draws randomness.
 */
import { UsageError } from '../errors.js';
import type { PrunableLayer } from '../graph/index.js';
import type { Mask } from '../masks/mask.js';
import { unknownName } from '../suggest.js';
import { dense } from './dense.js';
import { er } from './er.js';
import { erk } from './erk.js';
import { erkPlus } from './erk-plus.js';
import { file } from './file.js';
import { grasp } from './grasp.js';
import type { Criterion, RatioOptions, RatioPolicy, SaliencyPolicy, Scores } from './policy.js';
import { snip } from './snip.js';
import { uniform } from './uniform.js';
import { uniformPlus } from './uniform-plus.js';
import { uniformPlusExact } from './uniform-plus-exact.js';

export { fillBudget } from './budget.js';
export type * from './policy.js';

/** Every policy, in the order that help prints. */
export const ratioPolicies: readonly RatioPolicy[] = [
  dense,
  uniform,
  uniformPlus,
  uniformPlusExact,
  er,
  erk,
  erkPlus,
  snip,
  grasp,
  file,
];

/**
 * The policy of that name; `file:PATH` is `file`.
 * @throws {UsageError} for unknown names, with a suggestion
 */
export function findPolicy(name: string): RatioPolicy {
  const found = ratioPolicies.find((policy) =>
    policy.needs === 'file' ? name.startsWith(`${policy.name}:`) : policy.name === name,
  );
  if (found) return found;
  const known = ratioPolicies.map((policy) =>
    policy.needs === 'file' ? `${policy.name}:PATH` : policy.name,
  );
  throw unknownName('--ratio', 'policy', name, known);
}

export interface LayerDensitiesOptions {
  /** A policy's name, or one of your own. */
  readonly policy: string | RatioPolicy;
  /** Prunable layers in registration order (`prunableLayers(graph)`). */
  readonly layers: readonly PrunableLayer[];
  /** Kept share of all prunable weights, in (0, 1]; for `file`, 1 leaves it to the file. */
  readonly density: number;
  readonly options?: RatioOptions;
  /** For policies that need saliency: one array per layer, all float or all double. */
  readonly scores?: readonly Scores[];
}

/**
 * One density per layer, in their order.
 * @throws {UsageError} for unknown policies, and for budgets that the policy cannot meet
 */
export function layerDensities({
  policy,
  layers,
  density,
  options = {},
  scores,
}: LayerDensitiesOptions): number[] {
  if (!(density > 0 && density <= 1))
    throw new UsageError(`--density: expected a number in (0, 1], got ${density}.`);
  const chosen = typeof policy === 'string' ? findPolicy(policy) : policy;
  const { name } = chosen;
  const densities =
    chosen.needs === 'saliency'
      ? saliencyShares(chosen, layers, density, scores)
      : chosen.densities(layers, density, options);
  if (densities.length !== layers.length) {
    throw new UsageError(`[ratio ${name}] expected ${layers.length} densities, got ${densities.length}.`);
  }
  for (const [l, value] of densities.entries()) {
    if (!(value >= 0 && value <= 1)) {
      throw new UsageError(
        `[ratio ${name}] expected a density in [0, 1] for ${layers[l]!.name}, got ${value}.`,
      );
    }
  }
  return densities;
}

/**
 * The criterion's own positions (`--snip-keep-mask`; SPEC 2.5), one mask per layer, instead of densities to draw from.
 */
export function saliencyMasks({
  policy,
  layers,
  density,
  scores,
}: Pick<LayerDensitiesOptions, 'layers' | 'density' | 'scores'> & {
  readonly policy: string | SaliencyPolicy;
}): Mask[] {
  const chosen = typeof policy === 'string' ? findPolicy(policy) : policy;
  if (chosen.needs !== 'saliency')
    throw new UsageError(`--ratio ${chosen.name}: it has no positions of its own to keep.`);
  const checked = requireScores(chosen.name, layers, scores);
  const criterion = chosen.criterion(checked, density);
  return layers.map(({ shape, numel }, l) => {
    const bits = new Uint8Array(Math.ceil(numel / 8));
    const nnz = visitKept(checked[l]!, criterion, bits);
    return { shape, numel, nnz, bits };
  });
}

function requireScores(
  name: string,
  layers: readonly PrunableLayer[],
  scores: readonly Scores[] | undefined,
): readonly Scores[] {
  if (scores?.length !== layers.length) {
    throw new UsageError(
      `[ratio ${name}] expected scores of ${layers.length} layers, got ${scores?.length ?? 'none'}. Measure them first (src/training/saliency.ts).`,
    );
  }
  for (const [l, { name: layer, numel }] of layers.entries()) {
    const values = scores[l]!;
    if (values.length !== numel || values.constructor !== scores[0]!.constructor) {
      throw new UsageError(
        `[ratio ${name}] expected ${numel} scores of ${layer} in a ${scores[0]!.constructor.name}, got ${values.length} in a ${values.constructor.name}.`,
      );
    }
  }
  return scores;
}

function saliencyShares(
  policy: SaliencyPolicy,
  layers: readonly PrunableLayer[],
  density: number,
  scores: readonly Scores[] | undefined,
): number[] {
  const checked = requireScores(policy.name, layers, scores);
  const criterion = policy.criterion(checked, density);
  return checked.map((values) => visitKept(values, criterion) / values.length);
}

/** Counts the kept scores, and sets their bits where `bits` is given. */
function visitKept(scores: Scores, { threshold, keep }: Criterion, bits?: Uint8Array): number {
  const atLeast = keep === 'at least';
  let kept = 0;
  for (let i = 0; i < scores.length; i++) {
    if (atLeast ? scores[i]! >= threshold : scores[i]! <= threshold) {
      kept++;
      if (bits) bits[i >> 3]! |= 1 << (i & 7);
    }
  }
  return kept;
}

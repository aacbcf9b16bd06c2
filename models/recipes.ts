/**
 * Training recipes: SPEC 3.1, table 1 of the paper and the flags of its code. Presets of `rp run --preset`; every
 * value can be overridden. Commented data, no logic.
 */

export interface Recipe {
  /** The paper trains sparse ImageNet networks longer than dense ones. */
  readonly epochs: { readonly dense: number; readonly sparse: number };
  /** Images of one batch-norm group. */
  readonly batchSize: number;
  /** Groups whose gradients are averaged before one optimiser step. */
  readonly accumulate: number;
  /** Drop the last, partial batch of an epoch. */
  readonly dropLast: boolean;
  readonly lr: number;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** `not-bn`: parameters whose name contains "bn" are not decayed (shortcut batch norms are: `downsample.1`). */
  readonly weightDecayOn: 'all' | 'not-bn';
  readonly labelSmoothing: number;
  /** Epoch e of the warm-up uses lr · (e + 1) / (warmupEpochs + 1). */
  readonly warmupEpochs: number;
  /** lr × 0.1 after these fractions of the run, rounded down to whole epochs. */
  readonly milestones: { readonly dense: readonly number[]; readonly sparse: readonly number[] };
}

export const recipes = {
  /** CIFAR-10/100, ResNets and VGGs. */
  cifar: {
    epochs: { dense: 160, sparse: 160 },
    batchSize: 128,
    accumulate: 1,
    dropLast: false,
    lr: 0.1,
    momentum: 0.9,
    nesterov: true,
    weightDecay: 5e-4,
    weightDecayOn: 'all',
    labelSmoothing: 0,
    warmupEpochs: 0,
    milestones: { dense: [1 / 2, 3 / 4], sparse: [1 / 2, 3 / 4] },
  },
  /** ImageNet: four groups of 192, as the four GPUs of the paper's run. */
  imagenet: {
    epochs: { dense: 90, sparse: 100 },
    batchSize: 192,
    accumulate: 4,
    dropLast: true,
    lr: 0.4,
    momentum: 0.9,
    nesterov: false,
    weightDecay: 1e-4,
    weightDecayOn: 'not-bn',
    labelSmoothing: 0.1,
    warmupEpochs: 5,
    // Epochs 30, 60, 90 of 100 (sparse) and 30, 60, 80 of 90 (dense). Differs from the paper's code: it has
    // 30, 60, 80 for both; the paper's table 1 says otherwise (SPEC 7).
    milestones: { dense: [30 / 90, 60 / 90, 80 / 90], sparse: [30 / 100, 60 / 100, 90 / 100] },
  },
} as const satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;

/** Learning rates (SPEC 3.1): pure functions of the epoch. */

export interface ScheduleOptions {
  readonly lr: number;
  /** Epoch e of the warm-up uses lr · (e + 1) / (warmupEpochs + 1). */
  readonly warmupEpochs: number;
  /** From each of these epochs on (numbered from 0), the rate is multiplied by lrDecay. */
  readonly milestones: readonly number[];
  readonly lrDecay: number;
}

/** The rate of every step of an epoch, numbered from 0. */
export function learningRate(options: ScheduleOptions, epoch: number): number {
  const { lr, warmupEpochs, milestones, lrDecay } = options;
  if (epoch < warmupEpochs) return (lr * (epoch + 1)) / (warmupEpochs + 1);
  return lr * lrDecay ** milestones.filter((milestone) => milestone <= epoch).length;
}

/** One rate for each of `steps` steps from `firstStep`. */
export function learningRates(
  options: ScheduleOptions,
  firstStep: number,
  steps: number,
  stepsPerEpoch: number,
): number[] {
  return Array.from({ length: steps }, (_, i) =>
    learningRate(options, Math.floor((firstStep + i) / stepsPerEpoch)),
  );
}

/** Figures of repeated measurements: medians with quartiles, since a shared machine's means are its neighbours'. */

export interface Spread {
  readonly median: number;
  /** Quartiles. */
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/** Value at quantile q of sorted values, interpolated between neighbours. */
function quantile(sorted: readonly number[], q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (at - below) * (sorted[above]! - sorted[below]!);
}

/** @throws {RangeError} for no values. */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('[spread] expected at least one value, got none.');
  const sorted = [...values].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    low: quantile(sorted, 0.25),
    high: quantile(sorted, 0.75),
    count: values.length,
  };
}

/** The mean for ratios: a layer twice as fast and one half as fast give 1. NaN for no values. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** What a layer-wise ratio policy is (SPEC 2): from a density for the whole network to one per prunable layer. */
import type { PrunableLayer } from '../graph/index.js';

/** Saliencies of one layer's weights, row-major, one per weight. */
export type Scores = Float32Array | Float64Array;

export interface RatioOptions {
  /** erk_plus: the density of the last linear layer; default 1. */
  readonly classifierDensity?: number | undefined;
  /** file:PATH: the text of that file. */
  readonly densityFile?: string | undefined;
}

/**
 * The laws every policy keeps unless it says otherwise, checked for each in test/unit/ratios.test.ts: densities in
 * [0, 1]; `budget`: Σ density·numel is the density asked for times Σ numel; `monotone`: a larger budget thins no layer.
 */
export type Law = 'budget' | 'monotone';

interface PolicyBase {
  readonly name: string;
  /** One line: what it does, and whose it is. */
  readonly description: string;
  /** Laws it breaks on purpose, with the reason. */
  readonly breaks?: Partial<Record<Law, string>>;
}

/** Densities from shapes alone. */
export interface ShapePolicy extends PolicyBase {
  readonly needs: 'shapes';
  /** One density per layer, in their order; `density` is in (0, 1]. */
  densities(layers: readonly PrunableLayer[], density: number, options: RatioOptions): number[];
}

/** Which scores are kept: those at least, or at most, as large as the threshold. */
export interface Criterion {
  readonly threshold: number;
  readonly keep: 'at least' | 'at most';
}

/** Densities from saliencies that a dense network measured (src/training/saliency.ts): the share each layer keeps. */
export interface SaliencyPolicy extends PolicyBase {
  readonly needs: 'saliency';
  criterion(scores: readonly Scores[], density: number): Criterion;
}

/** Densities that a file gives. */
export interface FilePolicy extends PolicyBase {
  readonly needs: 'file';
  densities(layers: readonly PrunableLayer[], density: number, options: RatioOptions): number[];
}

export type RatioPolicy = ShapePolicy | SaliencyPolicy | FilePolicy;

/** Σ numel. */
export const totalOf = (layers: readonly { readonly numel: number }[]): number =>
  layers.reduce((total, { numel }) => total + numel, 0);

/** Index of the first convolution, or -1. */
export const firstConv = (layers: readonly PrunableLayer[]): number =>
  layers.findIndex(({ shape }) => shape.length === 4);

/** Index of the classifier, the last linear layer, or -1. Differs from the paper's code, which goes by names. */
export const classifier = (layers: readonly PrunableLayer[]): number =>
  layers.findLastIndex(({ shape }) => shape.length === 2);

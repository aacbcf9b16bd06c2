/**
 * What a network costs, dense and sparse (SPEC 4.7): FLOPs = 2 · MACs of convolutions and linear layers; batch norm,
 * activations, pooling and biases are free. The sparse cost of a layer is its density times its dense cost; training
 * costs three forwards. A ratio of FLOPs is arithmetic, never a measured speed-up.
 */
import { macCount, paramCount, prunableLayers } from '../graph/index.js';
import type { Graph } from '../graph/types.js';
import type { Mask } from '../masks/mask.js';

export interface LayerCost {
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
  /** Dense multiply-accumulates of one image. */
  readonly macs: number;
  /** The policy's exact density. */
  readonly density: number;
  /** Kept weights of the drawn mask. */
  readonly nnz: number;
}

export interface NetworkCost {
  /** Every parameter, batch norm and biases included. */
  readonly params: number;
  /** Dense multiply-accumulates of one image. */
  readonly macs: number;
  /** Σ density · macs. */
  readonly macsSparse: number;
  readonly layers: readonly LayerCost[];
}

/** Costs of a network under layer-wise densities (one per prunable layer) and the masks drawn from them. */
export function networkCost(
  graph: Graph,
  densities: readonly number[],
  masks: readonly (Mask | null)[],
): NetworkCost {
  const layers = prunableLayers(graph).map(({ name, shape, numel, macs, param }, index) => ({
    name,
    shape,
    numel,
    macs,
    density: densities[index]!,
    nnz: masks[param]?.nnz ?? numel,
  }));
  const macsSparse = layers.reduce((total, { density, macs }) => total + density * macs, 0);
  return { params: paramCount(graph), macs: macCount(graph), macsSparse, layers };
}

/** Sparse ÷ dense FLOPs of one image; of a training step too, since both take three forwards (SPEC 4.7). */
export function flopsRatio({ macs, macsSparse }: Pick<NetworkCost, 'macs' | 'macsSparse'>): number {
  return macsSparse / macs;
}

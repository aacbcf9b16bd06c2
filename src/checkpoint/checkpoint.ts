/**
 * A checkpoint in memory: what it takes to go on with a run bit by bit. The file is described by checkpoint.proto;
 * codec.ts turns one into the other. Values are packed: kept elements in ascending row-major (OIHW) order.
 */
import type { EngineName, Values } from '../engine/session.js';
import type { Graph } from '../graph/types.js';
import type { Mask } from '../masks/mask.js';

/** Schema this program writes, and the newest it reads. */
export const checkpointSchema = 1;

/** How the masks were made, so that they can be made again. */
export interface MaskRecipe {
  readonly policy: string;
  /** Global density asked for: kept / all prunable weights. */
  readonly density: number;
  /** `bernoulli`, `exact`, or `criterion`: the positions that SNIP or GraSP itself keeps. */
  readonly sampler: string;
  readonly granularity: string;
  readonly seed: number;
  /** The random generator, with its version. */
  readonly generator: string;
  /** The policy's density of each prunable layer, in registration order. */
  readonly densities: readonly number[];
  /** maskHash (src/masks/) of the masks. */
  readonly hash: string;
}

export interface OptimizerState {
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly labelSmoothing: number;
  /** One per graph.params entry. */
  readonly weightDecay: readonly number[];
}

/** Where the run stands. Data order and augmentation are functions of the seed and these numbers alone. */
export interface Position {
  /** Optimiser steps done, in all epochs. */
  readonly step: number;
  readonly stepsPerEpoch: number;
  /** Epochs of the whole run. */
  readonly epochs: number;
  /** Training-mode forward passes of every batch norm, as PyTorch counts them. */
  readonly numBatchesTracked: number;
  /** The unfinished epoch so far: sum of the training loss over its images; images seen; correct ones. */
  readonly epochLossSum: number;
  readonly epochImages: number;
  readonly epochCorrect: number;
  /** Images and seconds of training in all epochs. */
  readonly images: number;
  readonly seconds: number;
  /** Mean training loss of the last finished epoch; null before the first. */
  readonly trainLoss: number | null;
  /** Protocol `code` where the test set doubles as validation: the best test accuracy, never called best. */
  readonly bestTestAccuracy: number | null;
}

/** The best evaluation on held-out data. */
export interface Best {
  /** Epochs done when it was measured. */
  readonly epoch: number;
  readonly accuracy: number;
  /** Mean plain cross-entropy. */
  readonly loss: number;
  /** Of the same weights on the test set, which had no say in the choice. */
  readonly testAccuracy: number;
  readonly testLoss: number;
}

export interface Seeds {
  readonly init: number;
  readonly mask: number;
  readonly data: number;
}

export interface ParamState {
  readonly values: Values;
  readonly momentum: Values;
}

export interface Checkpoint {
  /** Program and version that wrote it. */
  readonly writer: string;
  readonly graph: Graph;
  /** The resolved configuration of the run, plain JSON; null where no `rp run` made the session. */
  readonly config: Readonly<Record<string, unknown>> | null;
  readonly maskRecipe: MaskRecipe | null;
  readonly optimizer: OptimizerState;
  readonly position: Position;
  readonly engine: EngineName;
  /** The engine's plan text, replayed by a resumed session. */
  readonly plan: string;
  readonly best: Best | null;
  readonly seeds: Seeds;
  /** One per graph.params entry; null: dense. */
  readonly masks: readonly (Mask | null)[];
  /** One per graph.params entry. */
  readonly params: readonly ParamState[];
  /** Running statistics, one per graph.buffers entry. */
  readonly buffers: readonly Values[];
}

/** Bytes of the tensors of a checkpoint as its file stores them, and as a dense file would. */
export function tensorBytes(checkpoint: Checkpoint): { stored: number; dense: number } {
  let stored = 0;
  let dense = 0;
  checkpoint.graph.params.forEach((param, i) => {
    const { values, momentum } = checkpoint.params[i]!;
    stored += (checkpoint.masks[i]?.bits.byteLength ?? 0) + values.byteLength + momentum.byteLength;
    dense += 2 * param.numel * values.BYTES_PER_ELEMENT;
  });
  for (const buffer of checkpoint.buffers) {
    stored += buffer.byteLength;
    dense += buffer.byteLength;
  }
  return { stored, dense };
}

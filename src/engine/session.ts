/**
 * Session: the one interface that every engine serves. Values cross it as logical NCHW / OIHW arrays; parameters
 * cross "packed": kept elements in ascending row-major order (`nnz` of them). A session queues concurrent calls and
 * runs each off the event loop on the engine's own threads. Native counterpart: native/engine/engine_abi.h.
 */

import type { Graph } from '../graph/types.js';
import type { Mask } from '../masks/mask.js';

export type EngineName = 'cpu' | 'reference';
/** float32 for `cpu`, float64 for `reference`. */
export type Values = Float32Array | Float64Array;
export type Program = 'train' | 'eval' | 'inputGradient' | 'tangent';
export type TensorKind = 'value' | 'gradient' | 'momentum' | 'direction' | 'gradientTangent' | 'running';

export interface SessionOptions {
  readonly graph: Graph;
  readonly engine: EngineName;
  /** One per graph.params entry; null = dense. Default: all dense. */
  readonly masks?: readonly (Mask | null)[];
  /** One per graph.params entry. Default 0. */
  readonly weightDecay?: readonly number[];
  /** Largest n of any batch. */
  readonly batchSize: number;
  /** Default ['train', 'eval']. */
  readonly programs?: readonly Program[];
  /** 0 (default): every core this process may use. */
  readonly threads?: number;
  /** One core a thread. Absent or null: where the session takes every core this process may use. */
  readonly pin?: boolean | null;
  /** Text of a plan to replay: measured choices are taken from it instead of being measured again. */
  readonly plan?: string;
  /** Choose kernels' tiles by a short measured search instead of by the cost model (default false). */
  readonly measure?: boolean;
  /** Searches already made, lines `key<tab>choice`: these layers are not measured again (src/engine/tile-cache.ts). */
  readonly tiles?: string;
  /** Ends the search, and with it the making of the session. */
  readonly signal?: AbortSignal | undefined;
}

/** What a session would allocate, in bytes. */
export interface MemoryPlan {
  readonly activations: number;
  readonly parameters: number;
  readonly total: number;
}

export interface Batch {
  /** (n, C, H, W), normalised, row-major. */
  readonly images: Values;
  /** n class indices. */
  readonly labels: Int32Array;
}

export interface LossOptions {
  /** Default 0. */
  readonly labelSmoothing?: number;
  /** Logits are multiplied by it before the softmax; default 1. */
  readonly logitScale?: number;
}

export interface GradientOptions extends LossOptions {
  /** Gradients are those of weight × mean loss; default 1. */
  readonly weight?: number;
  /** Add to the gradient buffer instead of overwriting it; default false. */
  readonly accumulate?: boolean;
  /** Default true. */
  readonly updateRunningStats?: boolean;
}

export interface SgdOptions {
  readonly lr: number;
  readonly momentum?: number;
  readonly nesterov?: boolean;
}

export interface BatchResult {
  /** Mean of the loss asked for. */
  readonly loss: number;
  /** Mean plain cross-entropy. */
  readonly nll: number;
  readonly correct: number;
}

export interface RunOptions extends LossOptions {
  readonly firstStep: number;
  readonly steps: number;
  /** One value, or one per step. */
  readonly lr: number | readonly number[];
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Aborting stops between steps; the result says how many were done. */
  readonly signal?: AbortSignal;
}

export interface RunResult {
  readonly stepsDone: number;
  readonly images: number;
  readonly correct: number;
  /** Mean training loss over the images seen. */
  readonly loss: number;
  /** One per step done. */
  readonly stepLosses: Float64Array;
  readonly waitSeconds: number;
  readonly seconds: number;
  /** The step whose loss or gradient was not finite (it was not applied), with the layer; null: none. */
  readonly failure: { readonly step: number; readonly layer: string } | null;
}

export interface EvalResult {
  readonly images: number;
  readonly correct: number;
  readonly accuracy: number;
  /** Mean plain cross-entropy. */
  readonly nll: number;
}

/** What an op of a profile did; those of one kind have one kernel (native/engine/cpu/profile.h). */
export type ProfileKind =
  /** Images into the engine's layout. */
  | 'import'
  /** Convolutions, and linear layers as 1x1 ones: into y, dx, dw. */
  | 'conv_forward'
  | 'conv_dgrad'
  | 'conv_wgrad'
  | 'bias_forward'
  | 'bias_wgrad'
  /** Zeros around what a convolution wrote, or around the gradient that it reads. */
  | 'border_forward'
  | 'border_backward'
  /** Batch norm's mean and variance, and the factors that normalise. */
  | 'statistics'
  /** Normalise, add, ReLU: one pass. */
  | 'combine_forward'
  /** ReLU's gradient, and batch norm's sums over it: the gradients of gamma and beta. */
  | 'combine_sums'
  | 'batch_norm_dgrad'
  /** Of an add, to an input that no batch norm stands before. */
  | 'gradient_copy'
  | 'pool_forward'
  | 'pool_backward'
  | 'flatten_forward'
  | 'flatten_backward'
  | 'loss'
  /** Of the gradient, before the updates of `run`. */
  | 'finite_check'
  | 'update'
  /** Values into the order in which a convolution's kernels read them. */
  | 'pack';

/** An op that ran while a profile was on. Ops do not overlap. */
export interface ProfileEvent {
  readonly kind: ProfileKind;
  /** Convolution and linear: the weight's name, as in the plan. Otherwise the node's; null: of the whole network. */
  readonly layer: string | null;
  /** Updates done since startProfile(): 0 for the ops of the first step, its update included. */
  readonly step: number;
  /** Microseconds since startProfile(). */
  readonly start: number;
  /** Microseconds until the last thread was done. */
  readonly duration: number;
}

/** Batches of a split, prepared natively (src/data/loader.ts makes them); opaque to everyone but the engine. */
export interface BatchStream {
  /** Optimiser steps in one epoch. */
  readonly stepsPerEpoch: number;
  /** Handle of the addon. */
  readonly native: unknown;
}

export interface Session {
  readonly engine: EngineName;
  readonly graph: Graph;
  readonly memory: MemoryPlan;
  /** The plan, replayable through SessionOptions.plan. */
  readonly plan: string;

  /** forward, backward, update on one batch. */
  step(images: Values, labels: Int32Array, options: SgdOptions & LossOptions): Promise<BatchResult>;
  /** Attaches the stream that `run` trains on. */
  attach(stream: BatchStream): void;
  run(options: RunOptions): Promise<RunResult>;
  /** Train-mode forward and backward into the gradient buffer; no update. */
  gradient(images: Values, labels: Int32Array, options?: GradientOptions): Promise<BatchResult>;
  /** SGD on the gradient buffer. */
  update(options: SgdOptions): Promise<void>;
  /** Eval-mode forward of one batch, with logits (n × classes). */
  evaluate(
    images: Values,
    labels: Int32Array,
    options?: LossOptions,
  ): Promise<BatchResult & { logits: Values }>;
  /** Eval-mode forward over one epoch of a stream. */
  evaluateStream(stream: BatchStream, options?: { signal?: AbortSignal }): Promise<EvalResult>;
  /** Eval-mode d (mean loss) / d pixel: channel c of the normalised gradient times inputScale[c] (1 / std). */
  inputGradient(
    images: Values,
    labels: Int32Array,
    options?: LossOptions & { inputScale?: readonly number[] },
  ): Promise<BatchResult & { gradient: Values }>;
  /** Gradient, and its exact derivative along `direction` (write it with `write('direction', …)`). */
  tangent(images: Values, labels: Int32Array, options?: GradientOptions): Promise<BatchResult>;

  /** Packed values of a parameter (or, for 'running', of a buffer), by name. Waits for queued calls. */
  read(kind: TensorKind, name: string): Promise<Values>;
  write(kind: TensorKind, name: string, values: Values): Promise<void>;
  /**
   * Records every op of the calls between here and stopProfile(), at no cost but reading a clock twice an op; results
   * stay the same to the bit. Waits for queued calls.
   * @throws {UsageError} without program 'train', by an engine that records none (`reference`), or while one is on.
   */
  startProfile(): Promise<void>;
  /**
   * The ops since startProfile(), in the order in which they began. Waits for queued calls.
   * @throws {UsageError} when no profile is on.
   */
  stopProfile(): Promise<ProfileEvent[]>;
  /** Waits for running calls, then frees everything. Later calls reject. */
  dispose(): Promise<void>;
}

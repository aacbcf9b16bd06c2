/**
 * What an experiment tells while it runs, and what it returns. The command line turns events into progress on
 * stderr; the run directory turns them into files; a program may do either or neither.
 */
import type { ExperimentConfig } from '../config.js';

/** One prunable layer of the run: a row of sparsity.csv. */
export interface LayerRecord {
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
  /** The policy's density. */
  readonly density: number;
  /** Kept weights of the drawn mask. */
  readonly nnz: number;
  /** Dense multiply-accumulates of one image. */
  readonly macs: number;
  /** The kernel that runs it, as the plan names it: `sparse_conv2d_avx512`. */
  readonly kernel: string;
  /** The tiles chosen for its passes: `forward=2x8/13n dgrad=… wgrad=…`. */
  readonly tiles: string;
  /** What the search measured for them, useful GFLOP/s a pass; empty where none was made. */
  readonly measured: string;
}

/** Everything is decided and allocated; the first step is next. Sent once, again after a resume. */
export interface PlannedEvent {
  readonly type: 'planned';
  /** As asked for, with the batch size, accumulation, data set and seeds really used. */
  readonly config: ExperimentConfig;
  /** What is trained on: `cifar10`, and a sentence about it. */
  readonly data: { readonly name: string; readonly description: string; readonly synthetic: boolean };
  readonly layers: readonly LayerRecord[];
  readonly maskHash: string;
  /** Sparse ÷ dense multiply-accumulates of one image: arithmetic, not a measured speed-up. */
  readonly flopsRatio: number;
  /** Bytes the session's plan allocates. */
  readonly memoryBytes: number;
  /** Text of the plan file. */
  readonly plan: string;
  readonly engine: string;
  readonly trainImages: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** Steps already done: 0, or where a resumed run goes on. */
  readonly firstStep: number;
}

/** Every `logInterval` steps, and at the end of an epoch. Means are over the steps since the last one. */
export interface ProgressEvent {
  readonly type: 'progress';
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
  /** Optimiser steps done in the run. */
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  /** In [0, 1]. */
  readonly accuracy: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** Share of the time that the engine waited for data. */
  readonly waitShare: number;
}

/** Held-out figures of an epoch. */
export interface Evaluation {
  readonly loss: number;
  readonly accuracy: number;
}

export interface EpochEvent {
  readonly type: 'epoch';
  /** From 1. */
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly train: Evaluation;
  /** Null where `evalEvery` skipped it. */
  readonly test: Evaluation | null;
  /** Held-out part of the training images (protocol `code`), or null. */
  readonly validation: Evaluation | null;
  readonly lr: number;
  readonly imagesPerSecond: number;
  readonly seconds: number;
}

export interface CheckpointEvent {
  readonly type: 'checkpoint';
  readonly path: string;
  readonly step: number;
  /** Size of the file, and of the same network stored dense. */
  readonly bytes: number;
  readonly denseBytes: number;
}

/** Something the user should know: the data set taken, a batch size lowered to fit, an empty layer. */
export interface NoticeEvent {
  readonly type: 'notice';
  readonly message: string;
}

export type ExperimentEvent = PlannedEvent | ProgressEvent | EpochEvent | CheckpointEvent | NoticeEvent;

/** What `rp run --json` prints and result.json holds. Accuracies are in [0, 1]. */
export interface ExperimentResult {
  /** `stopped`: by a signal or --max-steps' caller, after saving; the run can be resumed. */
  readonly status: 'done' | 'stopped';
  readonly run_dir: string | null;
  readonly arch: string;
  readonly ratio: string;
  readonly sparsity: number;
  readonly seed: number;
  readonly data: string;
  /** Epochs trained, the last perhaps in part. */
  readonly epochs: number;
  readonly steps: number;
  readonly final: {
    readonly train_loss: number | null;
    readonly test_loss: number | null;
    readonly test_accuracy: number | null;
  };
  /** Chosen by held-out training images (protocol `code`), never by the test set; null without them. */
  readonly best: {
    readonly epoch: number;
    readonly validation_accuracy: number;
    readonly test_loss: number | null;
    readonly test_accuracy: number | null;
  } | null;
  /**
   * Protocol `code` where the paper's code has no held-out images and picks the epoch by the test set (CIFAR-100,
   * ImageNet): its figure, for comparison with published ones alone. Nothing here is chosen by it. Null elsewhere.
   */
  readonly code_protocol: { readonly best_test_accuracy: number } | null;
  readonly images_per_second: number;
  readonly flops_ratio: number;
  readonly checkpoint: string | null;
  readonly checkpoint_bytes: number | null;
  readonly checkpoint_dense_bytes: number | null;
  readonly mask_sha256: string;
  readonly weights_sha256: string;
}

/**
 * Loader: batches of a split, prepared ahead by native threads (native/data/loader.h). A batch is a function of
 * (step, micro) and the options; neither the number of workers nor earlier reads change it.
 */
import type { Batch, BatchStream } from '../engine/session.js';
import { UsageError } from '../errors.js';
import type { ImageShape } from '../graph/types.js';
import type { Dataset } from './dataset.js';
import { callNative, type NativeLoader } from './native.js';

export interface LoaderOptions {
  readonly split: 'train' | 'test';
  /** Images [from, to) of the split. Default: all. */
  readonly range?: readonly [from: number, to: number] | undefined;
  /** Images of one micro-batch: one batch-norm group. */
  readonly batchSize: number;
  /** Micro-batches of an optimiser step. Default 1. */
  readonly accumulate?: number | undefined;
  /** A fresh order each epoch, keyed by (seed, epoch). Default false. */
  readonly shuffle?: boolean | undefined;
  /** Training augmentation, keyed by (seed, epoch, image). Default false: the test transform. */
  readonly augment?: boolean | undefined;
  /** Leave out an epoch's last, partial step (batchSize x accumulate images). Default false. */
  readonly dropLast?: boolean | undefined;
  /** Whole number below 2^53. Default 0. */
  readonly seed?: number | undefined;
  /** Preparing threads; 0 (default): one for every four cores, 1 to 8. */
  readonly workers?: number | undefined;
}

export interface LoadedBatch extends Batch {
  readonly images: Float32Array;
  /** n over the images of the step. */
  readonly weight: number;
}

export class Loader implements BatchStream {
  /** Images of one epoch, the dropped ones included. */
  readonly images: number;
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  readonly accumulate: number;
  /** (C, H, W) of a prepared image. */
  readonly shape: ImageShape;
  readonly native: NativeLoader;
  #disposed = false;

  constructor(dataset: Dataset, options: LoaderOptions) {
    const set = options.split === 'train' ? dataset.train : dataset.test;
    const [from, to] = options.range ?? [0, set.count];
    const { batchSize, accumulate = 1, seed = 0, workers = 0 } = options;
    check('batchSize', batchSize, 1, 2 ** 20);
    check('accumulate', accumulate, 1, 2 ** 20);
    check('workers', workers, 0, 256);
    check('seed', seed, 0, Number.MAX_SAFE_INTEGER);
    check('range[0]', from, 0, set.count - 1);
    check('range[1]', to, from + 1, set.count);
    if (options.dropLast && to - from < batchSize * accumulate) {
      throw new UsageError(
        `[loader] expected at least one whole step of ${batchSize} x ${accumulate} images, since the last partial ` +
          `one is dropped, got ${to - from} images. Take a smaller --batch-size or --accumulate.`,
      );
    }

    const { augmentation, mean, std } = dataset;
    const { native, stepsPerEpoch, shape } = callNative((addon) =>
      addon.createLoader(set.native, {
        from,
        to,
        batchSize,
        accumulate,
        shuffle: options.shuffle ?? false,
        augment: options.augment ?? false,
        dropLast: options.dropLast ?? false,
        seed,
        workers,
        kind: augmentation.kind,
        ...(augmentation.kind === 'crop'
          ? { pad: augmentation.pad, reflect: augmentation.padding === 'reflect' }
          : { size: augmentation.size }),
        mean,
        std,
      }),
    );
    this.images = to - from;
    this.stepsPerEpoch = stepsPerEpoch;
    this.batchSize = batchSize;
    this.accumulate = accumulate;
    this.shape = shape;
    this.native = native;
  }

  /**
   * Micro-batch `micro` of optimiser step `step` (epoch = ⌊step / stepsPerEpoch⌋): images (n, C, H, W) normalised,
   * labels (n). n = 0 where the step has no such micro-batch. Does not disturb what a session reads.
   */
  async batch(step: number, micro = 0): Promise<LoadedBatch> {
    if (this.#disposed) throw new Error('[loader] this loader was disposed.');
    check('step', step, 0, 2 ** 40);
    check('micro', micro, 0, 2 ** 20);
    return callNative((addon) => addon.loaderBatch(this.native, step, micro));
  }

  /** Stops the preparing threads, once no session reads from them. Later calls of `batch` reject. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    callNative((addon) => addon.disposeLoader(this.native));
  }
}

export function openLoader(dataset: Dataset, options: LoaderOptions): Loader {
  return new Loader(dataset, options);
}

function check(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new UsageError(
      `[loader] expected ${name} to be a whole number from ${low} to ${high}, got ${value}.`,
    );
  }
}

/** The addon's part for data (native/bindings/data.cpp): types, and native errors as this package's classes. */
import { native } from '../engine/native.js';
import { fromNative } from '../errors.js';

/** Handles of the addon: opaque, freed with their last reference. */
export type NativeImageSet = { readonly __imageSet: never };
export type NativeLoader = { readonly __loader: never };

export interface NativeBatch {
  /** (n, C, H, W), normalised. */
  readonly images: Float32Array;
  /** n class indices. */
  readonly labels: Int32Array;
  /** n over the images of the step. */
  readonly weight: number;
}

export interface LoaderSpec {
  readonly from: number;
  readonly to: number;
  readonly batchSize: number;
  readonly accumulate: number;
  readonly shuffle: boolean;
  readonly augment: boolean;
  readonly dropLast: boolean;
  /** Whole, below 2^53. */
  readonly seed: number;
  readonly workers: number;
  readonly kind: 'crop' | 'resized-crop';
  readonly pad?: number;
  readonly reflect?: boolean;
  readonly size?: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface NativeData {
  readCifar(paths: readonly string[], cifar100: boolean): Promise<NativeImageSet>;
  readIdx(
    imagesName: string,
    images: Uint8Array,
    labelsName: string,
    labels: Uint8Array,
    classes: number,
    side: number,
  ): NativeImageSet;
  makeImageSet(
    shape: readonly number[],
    classes: number,
    pixels: Uint8Array,
    labels: Int32Array,
  ): NativeImageSet;
  proceduralImages(options: {
    seed: number;
    test: boolean;
    count: number;
    classes: number;
    side: number;
    lazy: boolean;
  }): Promise<NativeImageSet>;
  imageSetInfo(set: NativeImageSet): { count: number; classes: number; shape: [number, number, number] };
  imageSetLabels(set: NativeImageSet): Int32Array;
  imageSetImage(set: NativeImageSet, index: number): Uint8Array;
  createLoader(
    set: NativeImageSet,
    spec: LoaderSpec,
  ): { native: NativeLoader; stepsPerEpoch: number; shape: [number, number, number] };
  loaderBatch(loader: NativeLoader, step: number, micro: number): Promise<NativeBatch>;
  /** As an engine fetches: through the prefetched batches, blocking. For tests and benches. */
  loaderFetch(loader: NativeLoader, step: number, micro: number): NativeBatch;
  disposeLoader(loader: NativeLoader): void;
}

/** Calls the addon; what it throws or rejects with arrives as a class of src/errors.ts. */
export function callNative<T>(body: (addon: NativeData) => T): T {
  try {
    const result = body(native().data);
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      throw fromNative(error);
    }) as T;
  } catch (error) {
    throw fromNative(error);
  }
}

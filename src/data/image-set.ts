/** ImageSet: labelled uint8 images of one size, held (or rendered on request) natively. */
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { CorruptError, UsageError } from '../errors.js';
import type { ImageShape } from '../graph/types.js';
import { callNative, type NativeImageSet } from './native.js';

/** Larger than any file of the data sets read here: what a compressed one may unfold to. */
const MAX_UNCOMPRESSED = 256 * 2 ** 20;

export class ImageSet {
  readonly count: number;
  readonly classes: number;
  /** Stored size, which a random resized crop may differ from. */
  readonly shape: ImageShape;
  #labels: Int32Array | undefined;

  /** `native` is a handle of the addon; the functions below make them. */
  constructor(readonly native: NativeImageSet) {
    const { count, classes, shape } = callNative((addon) => addon.imageSetInfo(native));
    this.count = count;
    this.classes = classes;
    this.shape = shape;
  }

  /** One class index an image. */
  get labels(): Int32Array {
    this.#labels ??= callNative((addon) => addon.imageSetLabels(this.native));
    return this.#labels;
  }

  /** A copy of image `index`: (C, H, W), 0 black to 255 full. Throws a RangeError outside [0, count). */
  image(index: number): Uint8Array {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`[image set] expected an index from 0 to ${this.count - 1}, got ${index}.`);
    }
    return callNative((addon) => addon.imageSetImage(this.native, index));
  }
}

/**
 * An image set from memory; copies both arrays.
 * @param pixels (N, C, H, W), 0 to 255
 * @param labels N class indices, each in [0, classes)
 */
export function imageSet(options: {
  shape: ImageShape;
  classes: number;
  pixels: Uint8Array;
  labels: Int32Array;
}): ImageSet {
  const { shape, classes, pixels, labels } = options;
  const bytes = labels.length * shape[0] * shape[1] * shape[2];
  if (labels.length === 0 || pixels.length !== bytes) {
    throw new UsageError(
      `[image set] expected ${bytes} pixels for ${labels.length} images of ${shape.join('x')}, got ${pixels.length}.`,
    );
  }
  return new ImageSet(callNative((addon) => addon.makeImageSet(shape, classes, pixels, labels)));
}

/**
 * CIFAR binary files, read one after another into one set; any whole number of rows. CIFAR-100 takes the fine label.
 * Throws CorruptError where a file is not rows of the format or a label is out of range.
 */
export async function readCifar(
  paths: readonly string[],
  variant: 'cifar10' | 'cifar100',
): Promise<ImageSet> {
  return new ImageSet(await callNative((addon) => addon.readCifar(paths, variant === 'cifar100')));
}

/**
 * IDX files of uint8 images (N, H, W) and labels (N), plain or .gz, as MNIST and Fashion-MNIST come: centred in
 * `side` x `side` pixels, the one channel repeated three times. Throws CorruptError on damage.
 */
export async function readIdx(
  imagesPath: string,
  labelsPath: string,
  { classes = 10, side = 32 }: { classes?: number; side?: number } = {},
): Promise<ImageSet> {
  const [images, labels] = await Promise.all([readMaybeGzip(imagesPath), readMaybeGzip(labelsPath)]);
  return new ImageSet(
    callNative((addon) => addon.readIdx(imagesPath, images, labelsPath, labels, classes, side)),
  );
}

async function readMaybeGzip(path: string): Promise<Uint8Array> {
  const bytes = await readFile(path);
  if (!path.endsWith('.gz')) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: MAX_UNCOMPRESSED });
  } catch (error) {
    throw new CorruptError(path, 0, 'a whole gzip file', (error as Error).message);
  }
}

/**
 * The built-in set, rendered from a seed (native/data/procedural.h, docs/data.md). The same options give the same
 * bytes on every machine.
 */
export async function proceduralImages(options: {
  seed: number;
  split: 'train' | 'test';
  count: number;
  /** 2 to 1000. */
  classes: number;
  /** Pixels. */
  side: number;
  /** Render an image when it is read, instead of keeping all of them in memory. Default false. */
  lazy?: boolean;
}): Promise<ImageSet> {
  const { seed, split, count, classes, side, lazy = false } = options;
  const whole = (name: string, value: number, low: number, high: number) => {
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new UsageError(
        `[procedural images] expected ${name} to be a whole number from ${low} to ${high}, got ${value}.`,
      );
    }
  };
  whole('seed', seed, 0, Number.MAX_SAFE_INTEGER);
  whole('count', count, 1, 2 ** 31 - 1);
  whole('classes', classes, 2, 1000);
  whole('side', side, 16, 1024);
  return new ImageSet(
    await callNative((addon) =>
      addon.proceduralImages({ seed, test: split === 'test', count, classes, side, lazy }),
    ),
  );
}

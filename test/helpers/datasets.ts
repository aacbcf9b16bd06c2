/** Small image sets and files in the formats the readers know. */
import { writeFileSync } from 'node:fs';
import { type Dataset, imageSet } from '../../src/data/index.js';
import { randomWords } from '../../src/random.js';

/** n uniform bytes. */
export function randomBytes(n: number, index = 0): Uint8Array {
  const words = randomWords(Math.ceil(n / 4), { seed: 9, purpose: 'syntheticImages', index });
  return new Uint8Array(words.buffer, 0, n);
}

/** Random pixels, labels 0, 1, 2, … in turn; test has half as many images as train. */
export function noiseDataset(
  count: number,
  change: Partial<Dataset> & { shape?: [number, number, number] } = {},
): Dataset {
  const { shape = [3, 32, 32], ...rest } = change;
  const set = (images: number, index: number) =>
    imageSet({
      shape,
      classes: 10,
      pixels: randomBytes(images * shape[0] * shape[1] * shape[2], index),
      labels: Int32Array.from({ length: images }, (_, i) => i % 10),
    });
  return {
    name: 'noise',
    description: 'noise',
    synthetic: true,
    classes: 10,
    imageShape: shape,
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2023, 0.1994, 0.201],
    augmentation: { kind: 'crop', pad: 4, padding: 'reflect' },
    train: set(count, 1),
    test: set(Math.max(1, count >> 1), 2),
    ...rest,
  };
}

/** Rows of CIFAR's binary format; label bytes first. */
export function cifarRows(labels: readonly (readonly number[])[], index = 0): Uint8Array {
  const rows = labels.map((label, i) =>
    Buffer.concat([Uint8Array.from(label), randomBytes(3072, index + i)]),
  );
  return Buffer.concat(rows);
}

/** An IDX file of uint8. */
export function idx(dimensions: readonly number[], data: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * dimensions.length);
  header.writeUInt32BE(0x0800 + dimensions.length);
  dimensions.forEach((length, i) => {
    header.writeUInt32BE(length, 4 + 4 * i);
  });
  return Buffer.concat([header, data]);
}

export function write(path: string, bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  return path;
}

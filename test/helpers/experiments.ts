/** Data and settings small enough that a whole experiment takes a fraction of a second. */
import fs from 'node:fs';
import path from 'node:path';
import { type Dataset, type ExperimentOptions, imageSet } from 'random-pruning';

/** Images (3, 8, 8) whose class is the quarter that is bright, with noise: 72 to train on, 24 to test. */
export function tinyData(classes = 4, train = 72, test = 24): Dataset {
  const side = 8;
  const make = (count: number, seed: number) => {
    let state = seed;
    const noise = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    const labels = Int32Array.from({ length: count }, (_, i) => i % classes);
    const pixels = Uint8Array.from({ length: count * 3 * side * side }, (_, i) => {
      const label = labels[Math.floor(i / (3 * side * side))]!;
      const x = i % side >= side / 2 ? 1 : 0;
      const y = Math.floor(i / side) % side >= side / 2 ? 1 : 0;
      return 100 * noise() + (2 * y + x === label % 4 ? 120 : 20);
    });
    return imageSet({ shape: [3, side, side], classes, pixels, labels });
  };
  return {
    ...{
      name: 'tiny',
      description: 'Bright quarters.',
      synthetic: true,
      classes,
      imageShape: [3, side, side],
    },
    ...{ mean: [0.4, 0.4, 0.4], std: [0.25, 0.25, 0.25] },
    augmentation: { kind: 'crop', pad: 1, padding: 'reflect' },
    ...{ train: make(train, 1), test: make(test, 2) },
  };
}

/** A network of 1,300 weights, two threads at most, every step logged. */
export const tinyOptions: ExperimentOptions = {
  ...{ arch: 'resnet8-4', sparsity: 0.5, epochs: 4, batchSize: 16, logInterval: 1, workers: 1, threads: 1 },
};

/** CIFAR-10's binary format, a few rows of it: a label and 3,072 pixels each. */
export function writeTinyCifar(directory: string, train: number, test: number): void {
  fs.mkdirSync(directory, { recursive: true });
  const rows = (count: number, seed: number) => {
    const bytes = Buffer.alloc(count * 3073);
    for (let i = 0; i < bytes.length; i++) {
      const [row, at] = [Math.floor(i / 3073), i % 3073];
      bytes[i] = at === 0 ? row % 10 : (25 * (row % 10) + Math.imul(i + seed, 2654435761)) & 255;
    }
    return bytes;
  };
  fs.writeFileSync(path.join(directory, 'data_batch_1.bin'), rows(train, 1));
  fs.writeFileSync(path.join(directory, 'test_batch.bin'), rows(test, 2));
}

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { imageSet, readCifar, readIdx } from '../../src/data/index.js';
import { CorruptError, UsageError } from '../../src/errors.js';
import { cifarRows, idx, randomBytes, write } from '../helpers/datasets.js';
import { temporaryDirectory } from '../helpers/temporary.js';

const dir = temporaryDirectory('readers');
let files = 0;
const file = (bytes: Uint8Array, suffix = '.bin') => write(join(dir, `${files++}${suffix}`), bytes);

async function corruption(work: Promise<unknown>): Promise<CorruptError> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CorruptError);
  expect((error as CorruptError).exitCode).toBe(4);
  return error as CorruptError;
}

describe('readCifar', () => {
  it('reads any whole number of rows, over several files, in order', async () => {
    const first = cifarRows([[3], [0], [9]]);
    const second = cifarRows([[7]], 50);
    const set = await readCifar([file(first), file(second)], 'cifar10');
    expect([set.count, set.classes, set.shape]).toEqual([4, 10, [3, 32, 32]]);
    expect([...set.labels]).toEqual([3, 0, 9, 7]);
    expect(Buffer.from(set.image(2))).toEqual(Buffer.from(first.subarray(2 * 3073 + 1, 3 * 3073)));
    expect(Buffer.from(set.image(3))).toEqual(Buffer.from(second.subarray(1)));
  });

  it("takes CIFAR-100's fine label", async () => {
    const set = await readCifar([file(cifarRows([[19, 99], [0, 4]]))], 'cifar100'); // biome-ignore format: rows
    expect([...set.labels]).toEqual([99, 4]);
    expect(set.classes).toBe(100);
  });

  it('refuses every length that is not whole rows, naming file and byte', async () => {
    const whole = cifarRows([[1], [2]]);
    for (const length of [0, 1, 2, 100, 3072, 3074, 4000, 6145]) {
      const path = file(whole.subarray(0, length));
      const error = await corruption(readCifar([path], 'cifar10'));
      expect(error.file).toBe(path);
      expect(error.offset).toBe(Math.floor(length / 3073) * 3073);
      expect(error.message).toContain('expected whole rows of 3073 bytes');
    }
  });

  it('refuses labels out of range at their byte: a CIFAR-100 file is no CIFAR-10', async () => {
    const error = await corruption(readCifar([file(cifarRows([[1], [10]]))], 'cifar10'));
    expect([error.offset, error.message]).toEqual([
      3073,
      expect.stringContaining('expected a label below 10, got 10'),
    ]);
    const coarse = await corruption(readCifar([file(cifarRows([[20, 5]]))], 'cifar100'));
    expect([coarse.offset, coarse.message]).toEqual([0, expect.stringContaining('below 20')]);
    const fine = await corruption(readCifar([file(cifarRows([[1, 1], [5, 100]]))], 'cifar100')); // biome-ignore format: rows
    expect(fine.offset).toBe(3075);
  });

  it('says which file is missing or no file', async () => {
    await expect(readCifar([join(dir, 'absent.bin')], 'cifar10')).rejects.toThrow('absent.bin: No such file');
    mkdirSync(join(dir, 'folder'));
    await expect(readCifar([join(dir, 'folder')], 'cifar10')).rejects.toThrow('expected a file');
  });
});

describe('readIdx', () => {
  const pixels = randomBytes(5 * 28 * 28);
  const images = idx([5, 28, 28], pixels);
  const labels = idx([5], Uint8Array.from([9, 0, 4, 4, 1]));

  it('centres 28x28 in 32x32 and repeats the channel, plain or gzip', async () => {
    const plain = await readIdx(file(images), file(labels));
    const gzip = await readIdx(file(gzipSync(images), '.gz'), file(gzipSync(labels), '.gz'));
    expect([...plain.labels]).toEqual([9, 0, 4, 4, 1]);
    const expected = new Uint8Array(3 * 32 * 32);
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < 28; y++) {
        for (let x = 0; x < 28; x++) {
          expected[c * 1024 + (y + 2) * 32 + x + 2] = pixels[4 * 784 + y * 28 + x]!;
        }
      }
    }
    expect(plain.image(4)).toEqual(expected);
    expect(gzip.image(4)).toEqual(expected);
  });

  it('refuses a truncation at any byte of the headers, and many after', async () => {
    for (const length of [...Array(17).keys(), 100, 784, 3000, images.length - 1]) {
      const error = await corruption(readIdx(file(images.subarray(0, length)), file(labels)));
      expect(error.offset).toBeLessThanOrEqual(length);
    }
    for (let length = 0; length < labels.length; length++) {
      await corruption(readIdx(file(images), file(labels.subarray(0, length))));
    }
    const packed = gzipSync(images);
    for (const length of [0, 5, 10, 50, packed.length >> 1, packed.length - 1]) {
      await corruption(readIdx(file(packed.subarray(0, length), '.gz'), file(labels)));
    }
  });

  it('refuses sizes that the file does not have, before allocating them', async () => {
    const header = (...dimensions: number[]) => idx(dimensions, pixels);
    for (const bad of [
      header(0, 28, 28),
      header(0xffffffff, 0xffffffff, 0xffffffff),
      header(0xffffffff, 1, 1),
      header(6, 28, 28),
      header(4, 28, 28),
      header(5 * 28, 28, 1).fill(0, 0, 1),
      header(5 * 14, 56, 1),
    ]) {
      await corruption(readIdx(file(bad), file(labels)));
    }
  });

  it('refuses another type or rank, swapped files, trailing bytes, labels out of range', async () => {
    const floats = Buffer.from(images);
    floats[2] = 0x0d;
    await corruption(readIdx(file(floats), file(labels)));
    expect((await corruption(readIdx(file(labels), file(images)))).message).toContain(
      'IDX magic number 2051',
    );
    await corruption(readIdx(file(Buffer.concat([images, Buffer.alloc(1)])), file(labels)));
    const wrong = Buffer.from(labels);
    wrong[10] = 10;
    const error = await corruption(readIdx(file(images), file(wrong)));
    expect([error.offset, error.message]).toEqual([10, expect.stringContaining('a label below 10, got 10')]);
    const fewer = idx([4], Uint8Array.from([1, 2, 3, 4]));
    expect((await corruption(readIdx(file(images), file(fewer)))).message).toContain('5 labels');
  });
});

describe('imageSet', () => {
  it('refuses pixels and labels that do not fit', () => {
    const make = (pixels: number, labels: number[]) =>
      imageSet({
        shape: [1, 2, 2],
        classes: 3,
        pixels: new Uint8Array(pixels),
        labels: Int32Array.from(labels),
      });
    expect(() => make(7, [0, 1])).toThrow(UsageError);
    expect(() => make(0, [])).toThrow(UsageError);
    expect(() => make(8, [0, 3])).toThrow('expected labels below 3, got 3');
    expect(() => make(8, [0, -1])).toThrow('got -1');
    expect(() => make(8, [0, 2]).image(2)).toThrow(RangeError);
  });
});

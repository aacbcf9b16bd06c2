import { describe, expect, it } from 'vitest';
import { collectPerClass, defaultSamplesPerClass, splitBatch } from '../../src/training/saliency.js';

/** Images of one pixel whose value is their position in the epoch. */
function loaderOf(labels: number[], batchSize: number) {
  const read: number[] = [];
  return {
    read,
    stepsPerEpoch: Math.ceil(labels.length / batchSize),
    async batch(step: number) {
      read.push(step);
      const from = step * batchSize;
      const part = labels.slice(from, from + batchSize);
      return { images: Float32Array.from(part, (_, i) => from + i), labels: Int32Array.from(part) };
    },
  };
}

describe('collectPerClass', () => {
  it('concatenates class by class, in loader order within a class', async () => {
    const loader = loaderOf([1, 0, 1, 2, 1, 0, 2, 2], 3);
    const { images, labels } = await collectPerClass(loader, 3, 2);
    expect([...labels]).toEqual([0, 0, 1, 1, 2, 2]);
    expect([...images]).toEqual([1, 5, 0, 2, 3, 6]);
  });

  it('stops reading once every class is full', async () => {
    const loader = loaderOf([0, 1, 0, 1, 0, 1], 2);
    await collectPerClass(loader, 2, 1);
    expect(loader.read).toEqual([0]);
  });

  it('says which class has too few images', async () => {
    const collected = collectPerClass(loaderOf([0, 0, 1], 2), 2, 2);
    await expect(collected).rejects.toThrow(
      'expected 2 images of each class in the training images, got 1 of class 1',
    );
  });
});

describe('splitBatch', () => {
  const batch = {
    images: Float32Array.from({ length: 14 }, (_, i) => i),
    labels: Int32Array.from({ length: 7 }, (_, i) => i),
  };

  it('gives consecutive parts that differ by at most one image', () => {
    const parts = splitBatch(batch, 3);
    expect(parts.map(({ labels }) => [...labels])).toEqual([
      [0, 1],
      [2, 3],
      [4, 5, 6],
    ]);
    expect([...parts[1]!.images]).toEqual([4, 5, 6, 7]);
  });

  it("halves like GraSP's N // 2", () => {
    expect(splitBatch(batch, 2).map(({ labels }) => labels.length)).toEqual([3, 4]);
  });
});

it('measures GraSP on about a thousand images at most', () => {
  expect([2, 10, 11, 100, 101, 1000].map(defaultSamplesPerClass)).toEqual([25, 25, 10, 10, 1, 1]);
});

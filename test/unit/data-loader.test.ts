import { describe, expect, it } from 'vitest';
import {
  type Dataset,
  type Loader,
  type LoaderOptions,
  openLoader,
  protocolSplits,
} from '../../src/data/index.js';
import { callNative, type NativeBatch } from '../../src/data/native.js';
import { UsageError } from '../../src/errors.js';
import { randomPermutation } from '../../src/random.js';
import { noiseDataset } from '../helpers/datasets.js';

const dataset = noiseDataset(100, {
  shape: [3, 8, 8],
  augmentation: { kind: 'crop', pad: 2, padding: 'zero' },
});

const open = (options: Partial<LoaderOptions> = {}, of: Dataset = dataset) =>
  openLoader(of, { split: 'train', batchSize: 16, shuffle: true, augment: true, seed: 4, ...options });

/** What an engine would see: through the prefetched batches. */
const fetched = (loader: Loader, step: number, micro = 0): NativeBatch =>
  callNative((addon) => addon.loaderFetch(loader.native, step, micro));

/** One string a batch: equal exactly when every bit is. */
const text = ({ images, labels, weight }: NativeBatch) =>
  `${Buffer.from(images.buffer).toString('base64')} ${labels} ${weight}`;

describe('batches', () => {
  it('are the same from 1, 2 and 4 workers, read ahead or one by one', async () => {
    const order = Array.from({ length: 20 }, (_, step) => step);
    const alone = open();
    const expected = await Promise.all(order.map(async (step) => text(await alone.batch(step))));
    expect(new Set(expected).size).toBe(20);
    for (const workers of [1, 2, 4]) {
      const loader = open({ workers });
      expect(order.map((step) => text(fetched(loader, step)))).toEqual(expected);
      loader.dispose();
    }
  });

  it('are the same after a resume in mid-epoch, and in any order', () => {
    const loader = open({ workers: 2, accumulate: 2 });
    const pairs = Array.from({ length: 24 }, (_, i) => [i >> 1, i & 1] as const);
    const expected = pairs.map(([step, micro]) => text(fetched(loader, step, micro)));
    const resumed = open({ workers: 1, accumulate: 2 });
    expect(pairs.slice(9).map(([step, micro]) => text(fetched(resumed, step, micro)))).toEqual(
      expected.slice(9),
    );
    // Jumps ahead of what is prepared, back, and to the same one again.
    for (const at of [3, 5, 23, 0, 0, 12, 13, 2, 22, 11, 18, 1]) {
      const [step, micro] = pairs[at]!;
      expect(text(fetched(loader, step, micro))).toBe(expected[at]);
    }
  });

  it('are the same under jumps that race the workers', () => {
    const loader = open({ workers: 4, batchSize: 5 });
    const reference = open({ workers: 1, batchSize: 5 });
    const expected = Array.from({ length: 60 }, (_, step) => text(fetched(reference, step)));
    let at = 0;
    for (let i = 0; i < 600; i++) {
      at = (at * 31 + 7 * i + 1) % 60;
      expect(text(fetched(loader, at))).toBe(expected[at]);
    }
  });

  it('differ by seed, epoch and, without shuffling, by augmentation alone', async () => {
    const images = async (options: Partial<LoaderOptions>, step: number) =>
      Buffer.from((await open(options).batch(step)).images.buffer).toString('base64');
    const plain = { shuffle: false, augment: false };
    const perEpoch = 7;
    expect(await images({ ...plain }, 0)).toBe(await images({ ...plain, seed: 5 }, perEpoch));
    expect(await images({ shuffle: false }, 0)).not.toBe(await images({ shuffle: false }, perEpoch));
    expect(await images({ shuffle: false }, 0)).not.toBe(await images({ shuffle: false, seed: 5 }, 0));
    expect(await images({ augment: false }, 0)).not.toBe(await images({ augment: false }, perEpoch));
    expect(await images({ augment: false }, 0)).not.toBe(await images({ augment: false, seed: 5 }, 0));
  });
});

describe('an epoch', () => {
  /** Small images, known by their pixels: a batch then shows which images it has. */
  const numbered = noiseDataset(50, {
    shape: [3, 2, 2],
    mean: [0, 0, 0],
    std: [1, 1, 1],
    augmentation: { kind: 'crop', pad: 0, padding: 'zero' },
  });
  const named = new Map(
    Array.from({ length: 50 }, (_, i) => [
      Array.from(numbered.train.image(i), (byte) => Math.fround(byte / 255)).join(),
      i,
    ]),
  );
  const indices = async (loader: Loader, step: number, micro = 0) => {
    const { images } = await loader.batch(step, micro);
    return Array.from({ length: images.length / 12 }, (_, i) =>
      named.get(images.subarray(i * 12, (i + 1) * 12).join()),
    );
  };

  it('shows every image once, in the order of (seed, epoch)', async () => {
    const loader = open({ batchSize: 8, augment: false, seed: 11 }, numbered);
    expect(loader.stepsPerEpoch).toBe(7);
    for (const epoch of [0, 1, 5]) {
      const seen: unknown[] = [];
      for (let step = 0; step < 7; step++) seen.push(...(await indices(loader, epoch * 7 + step)));
      expect(seen).toEqual([...randomPermutation(50, { seed: 11, purpose: 'shuffle', epoch })]);
      expect(new Set(seen).size).toBe(50);
    }
  });

  it('keeps to its range', async () => {
    const loader = open({ batchSize: 4, shuffle: false, augment: false, range: [40, 50] }, numbered);
    expect([loader.images, loader.stepsPerEpoch]).toEqual([10, 3]);
    expect(await indices(loader, 1)).toEqual([44, 45, 46, 47]);
    const shuffled = open({ batchSize: 10, augment: false, range: [40, 50] }, numbered);
    expect((await indices(shuffled, 0)).sort()).toEqual(Array.from({ length: 10 }, (_, i) => 40 + i));
  });

  it('keeps or drops the last, partial step', async () => {
    const kept = open({ batchSize: 8 }, numbered);
    expect((await kept.batch(6)).labels.length).toBe(2);
    expect(fetched(kept, 6).labels.length).toBe(2);
    expect(open({ batchSize: 8, dropLast: true }, numbered).stepsPerEpoch).toBe(6);
    expect(open({ batchSize: 25, dropLast: true }, numbered).stepsPerEpoch).toBe(2);
    expect(open({ batchSize: 8, accumulate: 4, dropLast: true }, numbered).stepsPerEpoch).toBe(1);
    expect(() => open({ batchSize: 51, dropLast: true }, numbered)).toThrow(UsageError);
  });

  it('splits a step into micro-batches whose weights are their shares', async () => {
    const loader = open({ batchSize: 8, accumulate: 4, shuffle: false, augment: false }, numbered);
    expect(loader.stepsPerEpoch).toBe(2); // 32 + 18
    const shape = async (step: number, micro: number) => {
      const both = [await loader.batch(step, micro), fetched(loader, step, micro)];
      expect(text(both[0]!)).toBe(text(both[1]!));
      return [both[0]!.labels.length, both[0]!.weight];
    };
    expect(await shape(0, 0)).toEqual([8, 0.25]);
    expect(await shape(0, 3)).toEqual([8, 0.25]);
    expect(await shape(0, 4)).toEqual([0, 0]);
    expect(await shape(1, 0)).toEqual([8, 8 / 18]);
    expect(await shape(1, 2)).toEqual([2, 2 / 18]);
    expect(await shape(1, 3)).toEqual([0, 0]);
    expect(await shape(2, 0)).toEqual([8, 0.25]);
    expect(await indices(loader, 1, 2)).toEqual([48, 49]);
  });

  it('reads a step with missing micro-batches and goes on', () => {
    const loader = open({ batchSize: 8, accumulate: 4, workers: 2 }, numbered);
    const again = open({ batchSize: 8, accumulate: 4 }, numbered);
    for (let step = 0; step < 12; step++) {
      for (let micro = 0; micro < 4; micro++) {
        const batch = fetched(loader, step, micro);
        expect(text(batch)).toBe(text(fetched(again, step, micro)));
        if (batch.labels.length === 0) break;
      }
    }
  });

  it('of evaluation repeats: reading ahead past its end serves the next', async () => {
    const loader = open(
      { batchSize: 8, shuffle: false, augment: false, split: 'test', workers: 2 },
      numbered,
    );
    const first = Array.from({ length: 4 }, (_, step) => text(fetched(loader, step)));
    const second = Array.from({ length: 4 }, (_, step) => text(fetched(loader, step)));
    expect(second).toEqual(first);
    expect(text(await loader.batch(6))).toBe(first[2]);
    const single = open({ batchSize: 64, shuffle: false, augment: false, split: 'test' }, numbered);
    expect(text(fetched(single, 0))).toBe(text(fetched(single, 3)));
  });
});

describe('a loader', () => {
  it('refuses options that make no sense, naming them', () => {
    expect(() => open({ batchSize: 0 })).toThrow('expected batchSize to be a whole number from 1');
    expect(() => open({ batchSize: 1.5 })).toThrow(UsageError);
    expect(() => open({ range: [0, 101] })).toThrow('range[1]');
    expect(() => open({ range: [5, 5] })).toThrow('range[1]');
    expect(() => open({ seed: -1 })).toThrow('seed');
    expect(() => open({ workers: 1000 })).toThrow('workers');
  });

  it('rejects a step below 0, and everything after dispose', async () => {
    const loader = open();
    await expect(loader.batch(-1)).rejects.toThrow('expected step');
    fetched(loader, 0);
    loader.dispose();
    loader.dispose();
    await expect(loader.batch(0)).rejects.toThrow('disposed');
    expect(() => fetched(loader, 0)).toThrow('disposed');
  });

  it('keeps a batch whole while others are asked for', async () => {
    const loader = open({ workers: 2 });
    const expected = await Promise.all(
      Array.from({ length: 14 }, async (_, s) => text(await loader.batch(s))),
    );
    const mixed = await Promise.all(
      Array.from({ length: 14 }, async (_, s) => {
        expect(text(fetched(loader, s))).toBe(expected[s]);
        return text(await loader.batch(13 - s));
      }),
    );
    expect(mixed.reverse()).toEqual(expected);
  });
});

describe('protocolSplits', () => {
  it('trains on everything under `final`', () => {
    expect(protocolSplits(dataset, 'final')).toEqual({ train: [0, 100], validation: null });
  });

  it('holds out the last tenth under `code`, with the training augmentation', () => {
    expect(protocolSplits(dataset, 'code')).toEqual({
      train: [0, 90],
      validation: { range: [90, 100], augment: true },
    });
  });

  it('holds nothing out of CIFAR-100, as the code', () => {
    expect(protocolSplits({ ...dataset, name: 'cifar100' }, 'code').validation).toBeNull();
  });
});

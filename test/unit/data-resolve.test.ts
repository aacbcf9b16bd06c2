import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findFiles, naturalSpecs, openLoader, resolveDataset } from '../../src/data/index.js';
import { CorruptError, EnvironmentError, UsageError } from '../../src/errors.js';
import { cifarRows, idx, randomBytes, write } from '../helpers/datasets.js';
import { temporaryDirectory } from '../helpers/temporary.js';

const root = temporaryDirectory('resolve');
const folder = (...names: string[]) => {
  const path = join(root, ...names);
  mkdirSync(path, { recursive: true });
  return path;
};
const cifar = { dataset: 'cifar10' } as const;
const imagenet = { dataset: 'imagenet' } as const;
const systemFashion = existsSync(naturalSpecs['fashion-mnist'].systemFolder);

function cifar10In(path: string, batches = [1, 2]): void {
  for (const n of batches) write(join(path, `data_batch_${n}.bin`), cifarRows([[n], [n + 1]], n));
  write(join(path, 'test_batch.bin'), cifarRows([[9]]));
}

function fashionIn(path: string): void {
  for (const [name, n] of [
    ['train', 3],
    ['t10k', 2],
  ] as const) {
    write(join(path, `${name}-images-idx3-ubyte`), idx([n, 28, 28], randomBytes(n * 784)));
    write(join(path, `${name}-labels-idx1-ubyte`), idx([n], new Uint8Array(n).fill(n)));
  }
}

describe('--data cifar10', () => {
  it('finds the files in the directory itself and in the usual sub-folders', async () => {
    for (const sub of ['', ...naturalSpecs.cifar10.folders]) {
      const dir = folder(`at-${sub.replaceAll('/', '-')}`);
      const path = join(dir, sub);
      mkdirSync(path, { recursive: true });
      cifar10In(path);
      expect((await findFiles('cifar10', dir))?.folder).toBe(path);
    }
  });

  it('reads batches in numerical order, as one split, with its statistics', async () => {
    const dir = folder('order');
    cifar10In(dir, [1, 2, 5]);
    write(join(dir, 'data_batch_10.bin'), cifarRows([[0]]));
    const dataset = await resolveDataset({ data: 'cifar10', dataDir: dir, model: cifar });
    expect([...dataset.train.labels]).toEqual([1, 2, 2, 3, 5, 6, 0]);
    expect([...dataset.test.labels]).toEqual([9]);
    expect(dataset).toMatchObject({
      name: 'cifar10',
      synthetic: false,
      classes: 10,
      imageShape: [3, 32, 32],
      mean: [0.4914, 0.4822, 0.4465],
      std: [0.2023, 0.1994, 0.201],
      augmentation: { kind: 'crop', pad: 4, padding: 'reflect' },
    });
    expect(dataset.description).toBe(
      `CIFAR-10 from ${dir}: 7 training and 1 test images (the published set has 50,000 and 10,000).`,
    );
  });

  it('missing: says what was looked for, where, and how to get it', async () => {
    const dir = folder('empty');
    const error = await resolveDataset({ data: 'cifar10', dataDir: dir, model: cifar }).catch((e) => e);
    expect(error).toBeInstanceOf(EnvironmentError);
    expect(error.exitCode).toBe(3);
    expect(error.message).toContain('data_batch_1.bin');
    expect(error.message).toContain(join(dir, 'cifar-10-batches-bin'));
    expect(error.message).toContain(`rp data get cifar10 --data-dir ${dir}`);
  });

  it('half there: says which half', async () => {
    const dir = folder('half');
    write(join(dir, 'data_batch_1.bin'), cifarRows([[1]]));
    for (const data of ['cifar10', 'auto']) {
      const resolved = resolveDataset({ data, dataDir: dir, model: cifar });
      await expect(resolved).rejects.toThrow(
        /expected data_batch_1.bin and test_batch.bin.*only data_batch_1.bin/,
      );
    }
  });

  it('damaged: exit code 4', async () => {
    const dir = folder('damaged');
    cifar10In(dir);
    write(join(dir, 'data_batch_2.bin'), cifarRows([[1]]).subarray(0, 3000));
    await expect(resolveDataset({ data: 'cifar10', dataDir: dir, model: cifar })).rejects.toThrow(
      CorruptError,
    );
  });
});

describe('--data cifar100', () => {
  it('reads train.bin and test.bin', async () => {
    const dir = folder('c100', 'cifar-100-binary');
    write(join(dir, 'train.bin'), cifarRows([[1, 77], [2, 3]])); // biome-ignore format: rows
    write(join(dir, 'test.bin'), cifarRows([[0, 99]]));
    const dataset = await resolveDataset({ data: 'cifar100', dataDir: join(root, 'c100'), model: cifar });
    expect([...dataset.train.labels]).toEqual([77, 3]);
    expect(dataset.classes).toBe(100);
    expect(dataset.augmentation).toEqual({ kind: 'crop', pad: 4, padding: 'zero' });
  });
});

describe('--data fashion-mnist', () => {
  it('reads plain files of the data directory', async () => {
    const dir = folder('fashion');
    fashionIn(dir);
    const dataset = await resolveDataset({ data: 'fashion-mnist', dataDir: dir, model: cifar });
    expect([dataset.train.count, dataset.test.count, dataset.imageShape]).toEqual([3, 2, [3, 32, 32]]);
  });

  it.skipIf(!systemFashion)(
    "reads Debian's package, 70,000 images (skipped where it is not installed)",
    async () => {
      const dataset = await resolveDataset({ data: 'fashion-mnist', dataDir: folder('none'), model: cifar });
      expect([dataset.train.count, dataset.test.count]).toEqual([60_000, 10_000]);
      const counts = new Int32Array(10);
      for (const label of dataset.train.labels) counts[label]!++;
      expect([...counts]).toEqual(Array(10).fill(6000));
      // Normalised pixels of the training split have mean 0 and deviation 1, to the digits given.
      const loader = openLoader(dataset, { split: 'train', batchSize: 2000 });
      const { images } = await loader.batch(0);
      const mean = images.reduce((s, v) => s + v, 0) / images.length;
      const square = images.reduce((s, v) => s + v * v, 0) / images.length;
      expect(Math.abs(mean)).toBeLessThan(0.03);
      expect(Math.abs(square - 1)).toBeLessThan(0.05);
    },
  );
});

describe('--data auto', () => {
  it("takes the network's own data set first", async () => {
    const dir = folder('both');
    cifar10In(dir);
    fashionIn(dir);
    const dataset = await resolveDataset({ dataDir: dir, model: cifar });
    expect(dataset.name).toBe('cifar10');
  });

  it('then Fashion-MNIST, and says that it is not CIFAR-10', async () => {
    const dir = folder('fashion-only');
    fashionIn(dir);
    const dataset = await resolveDataset({ dataDir: dir, model: cifar });
    expect(dataset.name).toBe('fashion-mnist');
    expect(dataset.description).toContain(`No CIFAR-10 under ${dir}`);
    expect(dataset.description).toContain("its accuracies are not CIFAR-10's");
  });

  it('then the built-in set, and says why', async () => {
    const spec = naturalSpecs['fashion-mnist'] as { systemFolder: string };
    const { systemFolder } = spec;
    spec.systemFolder = join(root, 'not-installed');
    try {
      const dir = folder('nothing');
      const dataset = await resolveDataset({ dataDir: dir, model: cifar, seed: 5 });
      expect([dataset.name, dataset.synthetic]).toEqual(['synthetic', true]);
      expect(dataset.description).toContain(`No CIFAR-10 under ${dir} and no Fashion-MNIST`);
      const explicit = resolveDataset({ data: 'fashion-mnist', dataDir: dir, model: cifar });
      await expect(explicit).rejects.toThrow('dataset-fashion-mnist');
    } finally {
      spec.systemFolder = systemFolder;
    }
  });

  it('for an ImageNet network: the built-in set at its size, rendered on request', async () => {
    const before = process.memoryUsage().rss;
    const dataset = await resolveDataset({ dataDir: folder('nothing'), model: imagenet });
    expect(dataset).toMatchObject({ synthetic: true, classes: 1000, imageShape: [3, 224, 224] });
    expect(dataset.train.shape).toEqual([3, 256, 256]);
    const loader = openLoader(dataset, { split: 'train', batchSize: 2, shuffle: true, augment: true });
    const { images } = await loader.batch(0);
    expect(images.length).toBe(2 * 3 * 224 * 224);
    expect(images.every(Number.isFinite)).toBe(true);
    // 20,000 images of 196,608 bytes would be 3.9 GB.
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
    const small = await resolveDataset({
      data: 'synthetic',
      classes: 20,
      model: { ...imagenet, imageSize: 64 },
    });
    expect([small.imageShape, small.train.shape, small.classes]).toEqual([[3, 64, 64], [3, 73, 73], 20]);
  });
});

describe('--data synthetic', () => {
  it('says what its accuracies are worth', async () => {
    const dataset = await resolveDataset({ data: 'synthetic', model: cifar, seed: 5, classes: 12 });
    expect(dataset.description).toContain('generated from seed 5');
    expect(dataset.description).toContain('accuracies mean nothing outside them');
    expect([dataset.classes, dataset.train.count, dataset.test.count]).toEqual([12, 10_000, 2_000]);
    expect([...dataset.test.labels].every((label) => label < 12)).toBe(true);
  });

  it('refuses class counts it does not have', async () => {
    await expect(resolveDataset({ data: 'synthetic', model: cifar, classes: 1 })).rejects.toThrow(UsageError);
  });
});

it('suggests a name for an unknown one', async () => {
  const error = await resolveDataset({ data: 'cifar-01', model: cifar }).catch((e) => e);
  expect(error).toBeInstanceOf(UsageError);
  expect(error.message).toContain('Known: auto, cifar10, cifar100, fashion-mnist, synthetic.');
});

const real = process.env.RP_DATA ? await findFiles('cifar10', process.env.RP_DATA).catch(() => null) : null;
it.skipIf(!real)('reads the CIFAR-10 under RP_DATA (skipped where there is none)', async () => {
  const dataset = await resolveDataset({ data: 'cifar10', dataDir: process.env.RP_DATA, model: cifar });
  expect(dataset.train.count % 1000).toBe(0);
  expect(new Set(dataset.train.labels).size).toBe(10);
  const loader = openLoader(dataset, { split: 'train', batchSize: dataset.train.count });
  const { images } = await loader.batch(0);
  // SPEC 3.2: the published mean and (per-image) deviation of CIFAR-10.
  expect(Math.abs(images.reduce((s, v) => s + v, 0) / images.length)).toBeLessThan(0.05);
});

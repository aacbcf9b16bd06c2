/**
 * The data sets by name: the one list that resolving, downloading, help and tests read. Statistics and augmentation
 * of CIFAR and ImageNet as SPEC 3.2.
 */

/** What training does to a stored image; testing only normalises (and, for `resized-crop`, crops the centre). */
export type Augmentation =
  | { readonly kind: 'crop'; readonly pad: number; readonly padding: 'reflect' | 'zero' }
  | { readonly kind: 'resized-crop'; readonly size: number };

/** Per channel, on the [0, 1] scale. */
export interface Normalisation {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface Archive {
  readonly url: string;
  readonly md5: string;
  /** The one folder inside. */
  readonly folder: string;
  /** Every file the archive may hold: the exact size of those that must be there, a bound for the others. */
  readonly files: Readonly<Record<string, { readonly bytes: number } | { readonly atMost: number }>>;
}

interface NaturalSpec {
  readonly title: string;
  readonly classes: number;
  readonly normalisation: Normalisation;
  readonly augmentation: Augmentation;
  /** Images of the published splits. */
  readonly published: { readonly train: number; readonly test: number };
  /** Sub-folders of the data directory that it is usually found in, after the directory itself. */
  readonly folders: readonly string[];
}

export interface CifarSpec extends NaturalSpec {
  readonly format: 'cifar';
  readonly trainFiles: RegExp;
  readonly trainExample: string;
  readonly testFile: string;
  readonly archive: Archive;
}

export interface IdxSpec extends NaturalSpec {
  readonly format: 'idx';
  /** Without the optional .gz. */
  readonly files: {
    readonly train: readonly [images: string, labels: string];
    readonly test: readonly [images: string, labels: string];
  };
  /** Where the system installs it. */
  readonly systemFolder: string;
  readonly install: string;
}

const TEXT = { atMost: 64 * 1024 };
const BATCH = { bytes: 10_000 * 3073 };

export const naturalSpecs = {
  cifar10: {
    format: 'cifar',
    title: 'CIFAR-10',
    classes: 10,
    normalisation: { mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.201] },
    augmentation: { kind: 'crop', pad: 4, padding: 'reflect' },
    published: { train: 50_000, test: 10_000 },
    folders: [
      'cifar-10-batches-bin',
      'cifar10',
      'cifar-10',
      'CIFAR10',
      'cifar10/cifar-10-batches-bin',
      'cifar10-mini',
    ],
    trainFiles: /^data_batch_(\d{1,4})\.bin$/,
    trainExample: 'data_batch_1.bin',
    testFile: 'test_batch.bin',
    archive: {
      url: 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
      md5: 'c32a1d4ab5d03f1284b67883e8d87530',
      folder: 'cifar-10-batches-bin',
      files: {
        'data_batch_1.bin': BATCH,
        'data_batch_2.bin': BATCH,
        'data_batch_3.bin': BATCH,
        'data_batch_4.bin': BATCH,
        'data_batch_5.bin': BATCH,
        'test_batch.bin': BATCH,
        'batches.meta.txt': TEXT,
        'readme.html': TEXT,
      },
    },
  },
  cifar100: {
    format: 'cifar',
    title: 'CIFAR-100',
    classes: 100,
    normalisation: {
      mean: [0.5070751592371323, 0.48654887331495095, 0.4409178433670343],
      std: [0.2673342858792401, 0.2564384629170883, 0.27615047132568404],
    },
    augmentation: { kind: 'crop', pad: 4, padding: 'zero' },
    published: { train: 50_000, test: 10_000 },
    folders: ['cifar-100-binary', 'cifar100', 'cifar-100', 'CIFAR100', 'cifar100/cifar-100-binary'],
    trainFiles: /^train\.bin$/,
    trainExample: 'train.bin',
    testFile: 'test.bin',
    archive: {
      url: 'https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
      md5: '03b5dce01913d631647c71ecec9e9cb8',
      folder: 'cifar-100-binary',
      files: {
        'train.bin': { bytes: 50_000 * 3074 },
        'test.bin': { bytes: 10_000 * 3074 },
        'coarse_label_names.txt': TEXT,
        'fine_label_names.txt': TEXT,
      },
    },
  },
  'fashion-mnist': {
    format: 'idx',
    title: 'Fashion-MNIST',
    classes: 10,
    // Of the 60,000 training images after padding to 32x32.
    normalisation: { mean: [0.219, 0.219, 0.219], std: [0.3318, 0.3318, 0.3318] },
    augmentation: { kind: 'crop', pad: 4, padding: 'zero' },
    published: { train: 60_000, test: 10_000 },
    folders: ['fashion-mnist', 'FashionMNIST/raw', 'fashion_mnist'],
    files: {
      train: ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte'],
      test: ['t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'],
    },
    systemFolder: '/usr/share/datasets/fashion-mnist',
    install: "install Debian's package dataset-fashion-mnist",
  },
} as const satisfies Record<string, CifarSpec | IdxSpec>;

export type NaturalName = keyof typeof naturalSpecs;
export type DownloadableName = 'cifar10' | 'cifar100';

/** Values of `--data`. */
export const dataNames = ['auto', 'cifar10', 'cifar100', 'fashion-mnist', 'synthetic'] as const;
export type DataName = (typeof dataNames)[number];

/** The built-in sets: shapes, sizes and what training does to them (docs/data.md). */
export const syntheticSpecs = {
  cifar10: {
    classes: 10,
    side: 32,
    lazy: false,
    augmentation: { kind: 'crop', pad: 4, padding: 'reflect' } as Augmentation,
    train: (classes: number) => Math.max(10_000, 200 * classes),
    test: (classes: number) => Math.max(2_000, 20 * classes),
  },
  imagenet: {
    classes: 1000,
    side: 256,
    lazy: true,
    augmentation: { kind: 'resized-crop', size: 224 } as Augmentation,
    train: (classes: number) => Math.max(2_000, 20 * classes),
    test: (classes: number) => Math.max(500, classes),
  },
} as const;

export const syntheticNormalisation: Normalisation = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };

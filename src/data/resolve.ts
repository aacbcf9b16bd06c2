/** From `--data NAME` to an open data set that says what it is. */
import { EnvironmentError, UsageError } from '../errors.js';
import { unknownName } from '../suggest.js';
import type { Dataset } from './dataset.js';
import { defaultDataDir, type FoundFiles, findFiles, searchedFolders } from './find.js';
import { type ImageSet, proceduralImages, readCifar, readIdx } from './image-set.js';
import {
  type DataName,
  dataNames,
  type NaturalName,
  naturalSpecs,
  syntheticNormalisation,
  syntheticSpecs,
} from './specs.js';

export interface ResolveOptions {
  /** `auto` (default): the model's natural data set, else Fashion-MNIST, else the built-in one. */
  readonly data?: string | undefined;
  /** Default: `RP_DATA`, else `data` in the working directory. */
  readonly dataDir?: string | null | undefined;
  /** What the network was made for, and (ImageNet-sized) the side of the image it reads. */
  readonly model: { readonly dataset: 'cifar10' | 'imagenet'; readonly imageSize?: number | undefined };
  /** Classes of the built-in set; other data sets have their own. Default 10, or 1000 for ImageNet-sized networks. */
  readonly classes?: number | null | undefined;
  /** Seed of the built-in set. Default 0. */
  readonly seed?: number | undefined;
}

/**
 * Opens the data set that `data` names. Throws EnvironmentError where its files are missing (saying where they were
 * looked for and how to get them), CorruptError where they are damaged, UsageError for an unknown name.
 */
export async function resolveDataset(options: ResolveOptions): Promise<Dataset> {
  const { data = 'auto', model } = options;
  const dataDir = options.dataDir ?? defaultDataDir();
  if (!isDataName(data)) throw unknownName('--data', 'data set', data, dataNames);
  if (data === 'synthetic') return openSynthetic(options, '');
  if (data !== 'auto') {
    const found = await findFiles(data, dataDir);
    if (!found) throw missing(data, dataDir);
    return openNatural(data, found, '');
  }

  if (model.dataset === 'imagenet') {
    return openSynthetic(
      options,
      'This network is made for ImageNet, whose files this version does not read; the built-in images stand in.',
    );
  }
  const natural = await findFiles('cifar10', dataDir);
  if (natural) return openNatural('cifar10', natural, '');
  const instead = `No CIFAR-10 under ${dataDir}`;
  const fashion = await findFiles('fashion-mnist', dataDir);
  if (fashion) {
    return openNatural(
      'fashion-mnist',
      fashion,
      `${instead}, so this is Fashion-MNIST: its accuracies are not CIFAR-10's.`,
    );
  }
  return openSynthetic(
    options,
    `${instead} and no Fashion-MNIST; \`rp data get cifar10\` downloads the former.`,
  );
}

function isDataName(name: string): name is DataName {
  return (dataNames as readonly string[]).includes(name);
}

function missing(name: NaturalName, dataDir: string): EnvironmentError {
  const spec = naturalSpecs[name];
  const files =
    spec.format === 'cifar'
      ? `${spec.trainExample}${name === 'cifar10' ? ', …' : ''} and ${spec.testFile}`
      : `${[...spec.files.train, ...spec.files.test].join(', ')} (plain or .gz)`;
  const remedy =
    spec.format === 'cifar'
      ? `Run \`rp data get ${name} --data-dir ${dataDir}\``
      : `To get it, ${spec.install}`;
  return new EnvironmentError(
    `--data ${name}: expected ${files} in one of ${searchedFolders(name, dataDir).join(', ')}, got none of them. ` +
      `${remedy}, or name the folder with --data-dir.`,
  );
}

async function openNatural(name: NaturalName, files: FoundFiles, note: string): Promise<Dataset> {
  const spec = naturalSpecs[name];
  const [train, test]: [ImageSet, ImageSet] =
    spec.format === 'cifar'
      ? await Promise.all([
          readCifar(files.train, name as 'cifar10'),
          readCifar(files.test, name as 'cifar10'),
        ])
      : await Promise.all([
          readIdx(files.train[0]!, files.train[1]!, { classes: spec.classes }),
          readIdx(files.test[0]!, files.test[1]!, { classes: spec.classes }),
        ]);
  const { published } = spec;
  const partial = train.count !== published.train || test.count !== published.test;
  const description = [
    `${spec.title} from ${files.folder}: ${counts(train, test)}`,
    partial ? ` (the published set has ${grouped(published.train)} and ${grouped(published.test)})` : '',
    spec.format === 'idx' ? ', padded to 32x32 and repeated over 3 channels' : '',
    '.',
    note && ` ${note}`,
  ].join('');
  return {
    name,
    description,
    synthetic: false,
    classes: spec.classes,
    imageShape: train.shape,
    ...spec.normalisation,
    augmentation: spec.augmentation,
    train,
    test,
  };
}

async function openSynthetic(options: ResolveOptions, note: string): Promise<Dataset> {
  const { model, seed = 0 } = options;
  const spec = syntheticSpecs[model.dataset];
  const classes = options.classes ?? spec.classes;
  if (!Number.isInteger(classes) || classes < 2 || classes > 1000) {
    throw new UsageError(`--classes: the built-in images have 2 to 1000 classes, got ${classes}.`);
  }
  const { lazy } = spec;
  // ImageNet-shaped images are as much larger than the crop as the test transform's 256 is than 224.
  const size =
    spec.augmentation.kind === 'resized-crop' ? (model.imageSize ?? spec.augmentation.size) : spec.side;
  const side = spec.augmentation.kind === 'resized-crop' ? Math.round((size * 256) / 224) : spec.side;
  const [train, test] = await Promise.all([
    proceduralImages({ seed, split: 'train', count: spec.train(classes), classes, side, lazy }),
    proceduralImages({ seed, split: 'test', count: spec.test(classes), classes, side, lazy }),
  ]);
  return {
    name: 'synthetic',
    description:
      `Built-in procedural images, generated from seed ${seed}: ${counts(train, test)}, ${classes} classes, ` +
      `${side}x${side}. Their accuracies mean nothing outside them.${note && ` ${note}`}`,
    synthetic: true,
    classes,
    imageShape: [3, size, size],
    ...syntheticNormalisation,
    augmentation:
      spec.augmentation.kind === 'resized-crop' ? { kind: 'resized-crop', size } : spec.augmentation,
    train,
    test,
  };
}

const grouped = (n: number) => n.toLocaleString('en-US');
const counts = (train: ImageSet, test: ImageSet) =>
  `${grouped(train.count)} training and ${grouped(test.count)} test images`;

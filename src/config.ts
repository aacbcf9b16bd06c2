/**
 * The experiment's configuration: one schema that gives the `ExperimentConfig` type, validates config files, and
 * describes the command-line flags (src/cli/flags.ts), `RP_*` variables and their help. Values come in layers,
 * weakest first: defaults < recipe (preset) < file < environment < flags. Sparsity is a word of users: it becomes
 * density here, and nothing below this file knows it. SPEC 3.1 and the options of SPEC 1.6, 2.0, 2.5, 2.6.
 */
import { z } from 'zod';
import { type RecipeName, recipes } from '../models/recipes.js';
import { dataNames } from './data/specs.js';
import { ratioPolicies } from './ratios/index.js';

/** What a user is told about one value. */
export interface FieldInfo {
  /** Completes "expected …" in errors, and the help. */
  readonly expects: string;
  readonly help: string;
  /** Commander's flag syntax; fields without one are reached by `--set`, files and RP_* variables. */
  readonly flag?: string;
  /** A second flag that says no, where the default may be yes. */
  readonly negation?: string;
  /** The variable, where it is not RP_ + the field's name. */
  readonly env?: string;
  readonly default?: unknown;
}

const infos = z.registry<FieldInfo>();

function field<S extends z.ZodType>(schema: S, info: FieldInfo & { readonly default?: z.output<S> }): S {
  infos.add(schema, info);
  return schema;
}

const whole = (from: number) => z.number().int().min(from);
const atLeast = (from: number) => ({ expects: `a whole number >= ${from}` });
const share = { expects: 'a number in [0, 1]' };
const seed = { expects: 'a whole number in [0, 2^53)' };
const yesNo = { expects: 'true or false' };
const oneOf = (names: readonly string[]) => ({ expects: names.join(', ').replace(/, ([^,]*)$/, ' or $1') });
const choice = <const T extends readonly string[]>(
  names: T,
  info: Omit<FieldInfo, 'expects'> & { default?: T[number] },
) => field(z.enum(names), { ...oneOf(names), ...info } as FieldInfo & { default?: T[number] });

const policyNames = ratioPolicies.map(({ name, needs }) => (needs === 'file' ? `${name}:PATH` : name));

/** Flags, files, variables and the type all come from this object, in this order. */
const shape = {
  arch: field(z.string().min(1), {
    expects: 'the name of a network (`rp models` lists them)',
    flag: '-a, --arch <name>',
    help: 'network: resnet20, resnet20-24 (width 24), vgg16, resnet50, wrn50, …; `rp models` lists them',
  }),
  classes: field(whole(2).nullable(), {
    ...atLeast(2),
    flag: '--classes <n>',
    help: "classes of the head, where no data set decides (default: the data set's)",
    default: null,
  }),
  imageSize: field(whole(8).nullable(), {
    ...atLeast(8),
    flag: '--image-size <pixels>',
    help: "side of the square input images (default: the network's own, 32 or 224)",
    default: null,
  }),

  ratio: field(z.string().min(1), {
    expects: 'the name of a ratio policy, or file:PATH',
    flag: '--ratio <policy>',
    help: `layer-wise ratio policy: ${policyNames.join(', ')}; file: densities as JSON or CSV. Default: erk when a sparsity is given, else dense`,
  }),
  density: field(z.number().gt(0).max(1), {
    expects: 'a number in (0, 1]',
    flag: '--density <share>',
    help: 'kept share of the prunable weights; 1 − sparsity',
  }),
  classifierDensity: field(z.number().min(0).max(1), {
    ...share,
    flag: '--classifier-density <share>',
    help: "erk_plus: the classifier's density",
    default: 1,
  }),
  sampler: choice(['bernoulli', 'exact'], {
    flag: '--sampler <name>',
    help: 'mask sampler: bernoulli draws each weight alone (the paper), exact keeps an exact count a layer',
    default: 'bernoulli',
  }),
  granularity: field(z.string().regex(/^(weight|filter|block:[1-9]\d*x[1-9]\d*)$/), {
    expects: 'weight, filter or block:OxI (block:16x8, say)',
    flag: '--granularity <unit>',
    help: 'what is kept or removed as one: weight (the paper), filter (whole output channels), block:OxI',
    default: 'weight',
  }),

  snipInit: choice(['weights', 'xavier'], {
    flag: '--snip-init <which>',
    help: "snip: score the network's own initial weights, or a Xavier-normal copy (the paper's CIFAR code)",
    default: 'weights',
  }),
  snipKeepMask: field(z.boolean(), {
    ...yesNo,
    flag: '--snip-keep-mask',
    help: "snip: train on the criterion's own positions instead of resampling (the paper's ImageNet code)",
    default: false,
  }),
  saliencyBatchSize: field(whole(1).nullable(), {
    ...atLeast(1),
    flag: '--saliency-batch-size <n>',
    help: 'snip: images of the batch it measures on (default: the batch size)',
    default: null,
  }),
  samplesPerClass: field(whole(1).nullable(), {
    ...atLeast(1),
    flag: '--samples-per-class <n>',
    help: 'grasp: images of each class it measures on (default: 25 up to 10 classes, 10 up to 100, else 1)',
    default: null,
  }),
  initialisation: z.strictObject({
    fan: choice(['auto', 'in', 'out'], {
      flag: '--init-fan <mode>',
      help: "Kaiming fan of the convolutions; auto: the family's",
      default: 'auto',
    }),
    scaled: choice(['off', 'global', 'layer'], {
      flag: '--init-scaled <mode>',
      help: "scale fan-in by the global density, or by the layer's kept share (the paper: off)",
      default: 'off',
    }),
  }),

  data: field(z.string().min(1), {
    ...oneOf(dataNames),
    flag: '--data <name>',
    env: 'RP_DATASET',
    help: `data set: ${dataNames.join(', ')}`,
    default: 'auto',
  }),
  dataDir: field(z.string().min(1).nullable(), {
    expects: 'a directory',
    flag: '--data-dir <dir>',
    env: 'RP_DATA',
    help: 'where the data sets lie; `rp data` says where it looks',
    default: null,
  }),
  protocol: choice(['final', 'code'], {
    flag: '--protocol <name>',
    help: "final: all training images, last epoch reported; code: the paper's code's splits and selection",
    default: 'final',
  }),
  workers: field(whole(0), {
    ...atLeast(0),
    flag: '-j, --workers <n>',
    help: 'threads that prepare batches; 0: as many as help here',
    default: 0,
  }),

  preset: field(z.enum(Object.keys(recipes) as [RecipeName, ...RecipeName[]]), {
    ...oneOf(Object.keys(recipes)),
    flag: '--preset <name>',
    help: "training recipe: cifar or imagenet (default: the network's)",
  }),
  epochs: field(whole(1), {
    ...atLeast(1),
    flag: '--epochs <n>',
    help: "epochs to train (default: the recipe's)",
  }),
  maxSteps: field(whole(1).nullable(), {
    ...atLeast(1),
    flag: '--max-steps <n>',
    help: 'stop after this many optimiser steps, whatever --epochs says',
    default: null,
  }),
  batchSize: field(whole(1), {
    ...atLeast(1),
    flag: '-b, --batch-size <n>',
    help: 'images of one batch-norm group',
  }),
  accumulate: field(whole(1), {
    ...atLeast(1),
    flag: '--accumulate <n>',
    help: 'groups whose gradients are averaged for one step; multiplies the batch size',
  }),
  fitBatch: field(z.boolean(), {
    ...yesNo,
    flag: '--fit-batch',
    negation: '--no-fit-batch',
    help: 'let the batch size shrink to fit --memory, raising --accumulate (default: yes unless -b is given)',
  }),
  dropLast: field(z.boolean(), {
    ...yesNo,
    flag: '--drop-last',
    negation: '--no-drop-last',
    help: "drop an epoch's last, partial batch (default: the recipe's)",
  }),
  lr: field(z.number().min(0), {
    expects: 'a number >= 0',
    flag: '--lr <rate>',
    help: 'learning rate before any decay',
  }),
  momentum: field(z.number().min(0).lt(1), {
    expects: 'a number in [0, 1)',
    flag: '--momentum <m>',
    help: 'SGD momentum',
  }),
  nesterov: field(z.boolean(), {
    ...yesNo,
    flag: '--nesterov',
    negation: '--no-nesterov',
    help: "Nesterov momentum (default: the recipe's)",
  }),
  weightDecay: field(z.number().min(0), {
    expects: 'a number >= 0',
    flag: '--weight-decay <x>',
    help: 'L2 coefficient, added to the gradient',
  }),
  weightDecayOn: choice(['all', 'not-bn'], {
    flag: '--weight-decay-on <which>',
    help: 'parameters that are decayed: all, or those without "bn" in their name',
  }),
  labelSmoothing: field(z.number().min(0).lt(1), {
    expects: 'a number in [0, 1)',
    flag: '--label-smoothing <x>',
    help: 'of the training loss only',
  }),
  warmupEpochs: field(whole(0), {
    ...atLeast(0),
    flag: '--warmup-epochs <n>',
    help: 'epochs of stepwise warm-up',
  }),
  milestones: field(z.array(whole(1)), {
    expects: 'epochs, separated by commas (80,120), or none',
    flag: '--milestones <epochs>',
    help: 'epochs after which the rate is multiplied by --lr-decay: 80,120, or none',
  }),
  lrDecay: field(z.number().gt(0).max(1), {
    expects: 'a number in (0, 1]',
    flag: '--lr-decay <factor>',
    help: 'factor at each milestone',
    default: 0.1,
  }),

  seed: field(whole(0), {
    ...seed,
    flag: '--seed <n>',
    help: 'sets --init-seed, --mask-seed and --data-seed',
    default: 17,
  }),
  initSeed: field(whole(0), { ...seed, flag: '--init-seed <n>', help: 'of the initial weights' }),
  maskSeed: field(whole(0), { ...seed, flag: '--mask-seed <n>', help: 'of the masks' }),
  dataSeed: field(whole(0), {
    ...seed,
    flag: '--data-seed <n>',
    help: 'of the order and augmentation of images',
  }),

  device: field(z.enum(['cpu', 'reference']), {
    expects: 'cpu, reference or auto',
    flag: '--device <name>',
    help: 'engine: cpu, reference (float64, slow), auto (the fastest there is: cpu)',
    default: 'cpu',
  }),
  precision: choice(['fp32'], {
    flag: '--precision <name>',
    help: 'arithmetic of the cpu engine: fp32',
    default: 'fp32',
  }),
  threads: field(whole(0), {
    ...atLeast(0),
    flag: '--threads <n>',
    help: 'compute threads; 0: every core this process may use',
    default: 0,
  }),
  pin: field(z.boolean().nullable(), {
    ...yesNo,
    flag: '--pin',
    negation: '--no-pin',
    help: 'pin compute threads to cores (default: where they take every core)',
    default: null,
  }),
  memory: field(z.string().regex(/^\d+(\.\d+)?\s*(%|[kmgt]i?b?|b)$/i), {
    expects: 'a size (12GB, 900MiB) or a share of what is free (80%)',
    flag: '--memory <size>',
    help: 'most memory the plan may take: 12GB, 900MiB, or a share of what is free',
    default: '80%',
  }),
  plan: field(z.string().min(1).nullable(), {
    expects: 'the plan.json of a run',
    flag: '--plan <file>',
    help: "replay a run's kernel choices instead of choosing again",
    default: null,
  }),
  tune: choice(['once', 'again', 'off'], {
    flag: '--tune <when>',
    help: 'measure which kernel tiles are fastest: once (a machine), again, off (by a model)',
    default: 'once',
  }),
  deterministic: field(z.boolean(), {
    ...yesNo,
    flag: '--deterministic',
    help: 'only kernels whose results repeat bit for bit (the cpu and reference engines always do)',
    default: false,
  }),

  outputDir: field(z.string().min(1).nullable(), {
    expects: 'a directory',
    flag: '-o, --output-dir <dir>',
    help: "the run's own directory (default: runs/<date>-<arch>-<ratio>-<sparsity>-<id>)",
    default: null,
  }),
  overwrite: field(z.boolean(), {
    ...yesNo,
    flag: '--overwrite',
    help: 'replace an earlier run in --output-dir',
    default: false,
  }),
  saveEvery: field(z.string().regex(/^[1-9]\d*(ep|it)$/), {
    expects: 'a number of epochs (1ep) or of steps (200it)',
    flag: '--save-every <interval>',
    help: 'checkpoint interval: 1ep (epochs) or 200it (steps)',
    default: '1ep',
  }),
  keep: field(whole(1), {
    ...atLeast(1),
    flag: '--keep <n>',
    help: 'last checkpoints to keep',
    default: 2,
  }),
  logInterval: field(whole(1), {
    ...atLeast(1),
    flag: '--log-interval <steps>',
    help: 'steps between two lines of progress and of metrics.jsonl',
    default: 50,
  }),
  evalEvery: field(whole(1), {
    ...atLeast(1),
    flag: '--eval-every <epochs>',
    help: 'epochs between two evaluations; the last epoch always has one',
    default: 1,
  }),
} as const;

/** Only users say it; a layer holds it or `density`, never both. */
const sparsitySchema = field(z.number().min(0).lt(1), {
  expects: 'a number in [0, 1)',
  flag: '--sparsity <share>',
  help: 'removed share of the prunable weights: 0.5, 0.9',
});

export const experimentSchema = z.strictObject(shape);
/** A complete experiment: every value decided. */
export type ExperimentConfig = z.output<typeof experimentSchema>;
/** What a program or a file may say: any part of it, `sparsity` for `density`, the seeds and the rest left out. */
export type ExperimentOptions = {
  [K in keyof Omit<ExperimentConfig, 'initialisation'>]?: ExperimentConfig[K] | undefined;
} & {
  readonly sparsity?: number | undefined;
  readonly initialisation?: Partial<ExperimentConfig['initialisation']> | undefined;
};

/**
 * The configuration that a checkpoint holds, or null where it holds none. Settings younger than the checkpoint take
 * their defaults.
 */
export function storedConfig(config: unknown): ExperimentConfig | null {
  const defaults = Object.entries(shape).flatMap(([name, schema]) => {
    const value = infos.get(schema)?.default;
    return value === undefined ? [] : [[name, value]];
  });
  return experimentSchema.safeParse({ ...Object.fromEntries(defaults), ...Object(config) }).data ?? null;
}

/** One value a user can set: `lr`, `initialisation.fan`. */
export interface Field extends FieldInfo {
  readonly path: readonly string[];
  readonly schema: z.ZodType;
}

function fieldsOf(object: Record<string, z.ZodType>, parents: readonly string[] = []): Field[] {
  return Object.entries(object).flatMap(([key, schema]) => {
    const path = [...parents, key];
    if (schema instanceof z.ZodObject) return fieldsOf(schema.shape, path);
    return [{ ...infos.get(schema)!, path, schema }];
  });
}

/** Every value a user can set, in the order of the help: sparsity stands before density. */
export const configFields: readonly Field[] = fieldsOf(
  Object.fromEntries(
    Object.entries<z.ZodType>(shape).flatMap((entry) =>
      entry[0] === 'density' ? [['sparsity', sparsitySchema], entry] : [entry],
    ),
  ),
);

/** `memory` in bytes, given what is free now. */
export function memoryLimit(memory: string, freeBytes: number): number {
  const [, amount, unit] = /^([\d.]+)\s*(.*)$/.exec(memory)!;
  if (unit === '%') return Math.floor((freeBytes * Number(amount)) / 100);
  const [prefix = '', binary] = unit!.toLowerCase();
  return Math.floor(Number(amount) * (binary === 'i' ? 1024 : 1000) ** ('kmgt'.indexOf(prefix || 'b') + 1));
}

/** `saveEvery` as a unit and a count. */
export function saveInterval(saveEvery: string): { readonly unit: 'epoch' | 'step'; readonly every: number } {
  return { unit: saveEvery.endsWith('ep') ? 'epoch' : 'step', every: Number.parseInt(saveEvery, 10) };
}

/** What names and reports say: 1 − density, without the noise of binary fractions. */
export const sparsityOf = ({ density }: { readonly density: number }): number =>
  Math.round((1 - density) * 1e10) / 1e10;

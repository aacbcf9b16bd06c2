/**
 * What stands before a session: the data set, the network built for it, and its draw. Saliencies of snip and grasp are
 * measured here, on a dense session of their own that is gone before training plans its memory.
 */
import { buildModel, type Model } from '../architectures/index.js';
import { type ExperimentConfig, memoryLimit } from '../config.js';
import {
  type Dataset,
  type LoaderOptions,
  openLoader,
  protocolSplits,
  resolveDataset,
} from '../data/index.js';
import { createSession, planMemory } from '../engine/create-session.js';
import { availableMemory, type BatchPlan, fitBatch, largestFittingBatch } from '../engine/memory.js';
import type { SessionOptions } from '../engine/session.js';
import { EnvironmentError, UsageError } from '../errors.js';

import { type Graph, macCount, paramCount } from '../graph/index.js';
import { findPolicy, type RatioPolicy } from '../ratios/index.js';
import { bytesText } from '../units.js';

import { type DrawnNetwork, drawNetwork, type MeasureScores } from './draw.js';
import {
  collectPerClass,
  defaultSamplesPerClass,
  type MeasuredSet,
  measureGrasp,
  measureSnip,
  splitBatch,
} from './saliency.js';
import { weightDecays } from './state.js';

/** Parts that a program brings itself, where a name in the configuration would not do. */
export interface OwnParts {
  /** A network instead of the one that `config.arch` names. */
  readonly model?: Model | undefined;
  /** Images instead of those that `config.data` names. */
  readonly dataset?: Dataset | undefined;
  /** A ratio policy instead of the one that `config.ratio` names. */
  readonly policy?: RatioPolicy | undefined;
}

export interface PrepareHooks extends OwnParts {
  readonly onNotice?: ((message: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Opens the data set of `config`, and builds the network for its classes and image size. */
export async function openData(
  config: ExperimentConfig,
  own: OwnParts = {},
): Promise<{ dataset: Dataset; model: Model }> {
  const { arch, data, dataDir, classes, imageSize } = config;
  const wanted = own.model ?? buildModel(arch, { imageSize: imageSize ?? undefined });
  const dataset =
    own.dataset ??
    (await resolveDataset({
      data,
      dataDir,
      classes: own.model?.graph.classes ?? classes,
      model: { dataset: wanted.dataset, imageSize: wanted.graph.input[1] },
    }));
  const [, side] = dataset.imageShape;
  if (classes !== null && classes !== dataset.classes) {
    throw new UsageError(
      `--classes: ${dataset.name} has ${dataset.classes} classes, got ${classes}. Leave it out, or pass --data synthetic.`,
    );
  }
  if (imageSize !== null && imageSize !== side) {
    throw new UsageError(
      `--image-size: the images of ${dataset.name} are ${side}x${side}, got ${imageSize}. Leave it out.`,
    );
  }
  const model = own.model ?? buildModel(arch, { classes: dataset.classes, imageSize: side });
  const { input, classes: head } = model.graph;
  if (head !== dataset.classes || input.join() !== dataset.imageShape.join()) {
    throw new UsageError(
      `[${model.name}] expected ${dataset.classes} classes of images (${dataset.imageShape.join(', ')}) for ${dataset.name}, got ${head} of (${input.join(', ')}).`,
    );
  }
  return { dataset, model };
}

/** The network of a checkpoint: its graph is whole; what the data set needs to know beside it follows from its input. */
export function modelOf(name: string, graph: Graph): Model {
  const large = graph.input[1] > 64;
  return {
    ...{ name, graph, params: paramCount(graph), macs: macCount(graph) },
    dataset: large ? 'imagenet' : 'cifar10',
    recipe: large ? 'imagenet' : 'cifar',
    initialisation: large ? 'imagenet' : 'cifar-resnet',
  };
}

/** Bytes that `--memory` allows now. */
export const memoryBudget = (config: ExperimentConfig): number =>
  memoryLimit(config.memory, availableMemory());

/** The options of the loader of training batches; only the size of the batches differs between its users. */
export function trainingLoaderOptions(
  config: ExperimentConfig,
  dataset: Dataset,
): Omit<LoaderOptions, 'batchSize'> {
  return {
    split: 'train',
    range: protocolSplits(dataset, config.protocol).train,
    shuffle: true,
    augment: true,
    seed: config.dataSeed,
    workers: config.workers,
  };
}

/** Scores on training images, in chunks as large as the memory allows (docs/decisions/0020-saliency-in-chunks.md). */
function measureOn(
  config: ExperimentConfig,
  dataset: Dataset,
  { graph }: Model,
  hooks: PrepareHooks,
): MeasureScores {
  return async (criterion, weights) => {
    hooks.signal?.throwIfAborted();
    const perClass = config.samplesPerClass ?? defaultSamplesPerClass(dataset.classes);
    const images =
      criterion === 'snip'
        ? Math.min(config.saliencyBatchSize ?? config.batchSize, dataset.train.count)
        : Math.ceil((perClass * dataset.classes) / 2);
    const options = (batchSize: number): SessionOptions => ({
      graph,
      engine: config.device,
      batchSize,
      programs: criterion === 'snip' ? ['train'] : ['train', 'tangent'],
      threads: config.threads,
      pin: config.pin,
    });
    const budget = memoryBudget(config);
    const chunk = largestFittingBatch(images, budget, (n) => planMemory(options(n)).total);
    if (chunk === 0) {
      throw new EnvironmentError(
        `--memory: measuring ${criterion} on one image needs ${bytesText(planMemory(options(1)).total)}, but ${bytesText(budget)} may be taken.`,
      );
    }
    const session = await createSession(options(chunk));
    const loader = openLoader(dataset, {
      ...trainingLoaderOptions(config, dataset),
      batchSize: criterion === 'snip' ? images : Math.min(128, dataset.train.count),
    });
    try {
      for (const [name, values] of weights) await session.write('value', name, values);
      hooks.signal?.throwIfAborted();
      const saliency =
        criterion === 'snip'
          ? await measureSnip(session, await loader.batch(0, 0), { chunk })
          : await measureGrasp(
              session,
              splitBatch(await collectPerClass(loader, dataset.classes, perClass), 2),
              { chunk },
            );
      hooks.onNotice?.(
        `${criterion} measured on ${saliency.sets.map(describeSet).join(' and ')} of ${dataset.name}`,
      );
      return saliency.scores;
    } finally {
      loader.dispose();
      await session.dispose();
    }
  };
}

const describeSet = ({ images, chunks, loss }: MeasuredSet) =>
  `${images} images${chunks.length > 1 ? ` in ${chunks.length} chunks` : ''} (loss ${loss.toFixed(4)})`;

/**
 * The network that `config` describes, drawn. The data set is opened where it is named or measured on; otherwise
 * `--classes` and the network's own figures decide the head.
 */
export async function prepareNetwork(
  config: ExperimentConfig,
  hooks: PrepareHooks = {},
): Promise<{ network: DrawnNetwork; dataset: Dataset | null }> {
  const { arch, classes, imageSize } = config;
  const policy = findPolicy(config.ratio);
  if (policy.needs !== 'saliency' && config.data === 'auto') {
    const model = buildModel(arch, { classes: classes ?? undefined, imageSize: imageSize ?? undefined });
    const measure = () => Promise.reject(new Error(`${policy.name} asked for scores`));
    return {
      network: await drawNetwork({ config, model, measure, onNotice: hooks.onNotice }),
      dataset: null,
    };
  }
  return prepareTraining(config, hooks);
}

/** The same with the data set always open: what training starts from. */
export async function prepareTraining(
  config: ExperimentConfig,
  hooks: PrepareHooks = {},
): Promise<{ network: DrawnNetwork; dataset: Dataset }> {
  const { dataset, model } = await openData(config, hooks);
  const measure = measureOn(config, dataset, model, hooks);
  const { policy, onNotice } = hooks;
  return { network: await drawNetwork({ config, model, policy, measure, onNotice }), dataset };
}

/** The options of the session that trains `network`; a plan to replay is added by the caller. */
export function trainingSessionOptions(
  config: ExperimentConfig,
  { model: { graph }, masks }: DrawnNetwork,
  batchSize: number,
): SessionOptions {
  return {
    graph,
    engine: config.device,
    masks,
    batchSize,
    weightDecay: weightDecays(graph, config.weightDecay, config.weightDecayOn),
    programs: ['train', 'eval'],
    threads: config.threads,
    pin: config.pin,
  };
}

/**
 * The batch to train with: the configured one, or the largest that `--memory` allows with the same global batch. Says
 * so where it lowers it.
 */
export function planBatch(
  config: ExperimentConfig,
  network: DrawnNetwork,
  { onNotice }: PrepareHooks = {},
): BatchPlan & { readonly memoryBytes: number; readonly budgetBytes: number } {
  const bytesOf = (n: number) => planMemory(trainingSessionOptions(config, network, n)).total;
  const budgetBytes = memoryBudget(config);
  const { batchSize, accumulate } = fitBatch(config, !config.fitBatch, budgetBytes, bytesOf);
  if (batchSize !== config.batchSize) {
    onNotice?.(
      `batch ${config.batchSize} × ${config.accumulate} does not fit into ${bytesText(budgetBytes)} (--memory ${config.memory}): ` +
        `taking ${batchSize} × ${accumulate}, the same images a step; batch norm sees ${batchSize} of them at a time.`,
    );
  }
  return { batchSize, accumulate, memoryBytes: bytesOf(batchSize), budgetBytes };
}

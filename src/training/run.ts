/** Training a prepared session to its end, and the record of it: what new and resumed experiments share. */
import type { Checkpoint, MaskRecipe } from '../checkpoint/checkpoint.js';
import { weightsSha256 } from '../checkpoint/weights-hash.js';
import type { ExperimentConfig } from '../config.js';
import { type Dataset, type Loader, openLoader, protocolSplits } from '../data/index.js';
import type { Session } from '../engine/session.js';
import { plannedLayers } from '../engine/tile-cache.js';
import type { Mask } from '../masks/mask.js';
import { flopsRatio, type NetworkCost, networkCost } from '../metrics/flops.js';
import type { ExperimentResult, LayerRecord } from './events.js';
import { type FitResult, type Progress, totalSteps, trainSession } from './loop.js';
import { packageVersion } from './machine.js';
import { trainingLoaderOptions } from './prepare.js';
import type { Recorder } from './recorder.js';
import { readState, weightDecays } from './state.js';

/** A session with its weights in place, and what it is to be trained on. */
export interface PreparedRun {
  /** Decided to the last value. */
  readonly config: ExperimentConfig;
  readonly dataset: Dataset;
  readonly session: Session;
  /** The session's, with every search's figures known. */
  readonly plan: string;
  /** One per graph.params entry. */
  readonly masks: readonly (Mask | null)[];
  readonly maskRecipe: MaskRecipe;
  readonly loaders: Loaders;
  readonly start: Progress;
  readonly recorder: Recorder;
  readonly signal?: AbortSignal | undefined;
}

export interface Loaders {
  readonly train: Loader;
  readonly test: Loader;
  readonly validation: Loader | null;
  dispose(): void;
}

/** The training images as the protocol splits them (SPEC 3.3), and the test images. */
export function openLoaders(config: ExperimentConfig, dataset: Dataset): Loaders {
  const { batchSize, accumulate, dropLast, dataSeed: seed, workers } = config;
  const { validation: held } = protocolSplits(dataset, config.protocol);
  const train = openLoader(dataset, {
    ...trainingLoaderOptions(config, dataset),
    batchSize,
    accumulate,
    dropLast,
  });
  const test = openLoader(dataset, { split: 'test', batchSize, workers });
  const validation =
    held &&
    openLoader(dataset, {
      split: 'train',
      range: held.range,
      augment: held.augment,
      batchSize,
      seed,
      workers,
    });
  const all = [train, test, ...(validation ? [validation] : [])];
  const dispose = () => {
    for (const loader of all) loader.dispose();
  };
  return { train, test, validation, dispose };
}

/** Trains, with a checkpoint at every interval and at the end. */
export async function trainRun(run: PreparedRun): Promise<ExperimentResult> {
  const { config, session, masks, maskRecipe, loaders, recorder, signal } = run;
  const { graph } = session;
  const cost = networkCost(graph, maskRecipe.densities, masks);
  announce(run, cost);
  const snapshot = async (progress: Progress): Promise<Checkpoint> => ({
    ...{ ...progress, ...(await readState(session)), graph, masks, maskRecipe, engine: session.engine },
    writer: `random-pruning ${packageVersion()}`,
    config: { ...config, outputDir: null, overwrite: false },
    optimizer: {
      ...{ momentum: config.momentum, nesterov: config.nesterov, labelSmoothing: config.labelSmoothing },
      weightDecay: weightDecays(graph, config.weightDecay, config.weightDecayOn),
    },
    plan: run.plan,
    seeds: { init: config.initSeed, mask: config.maskSeed, data: config.dataSeed },
  });
  const result = await trainSession({
    ...{ session, config, data: loaders, start: run.start, emit: recorder.emit, signal },
    save: recorder.directory
      ? async (name, progress) => {
          const checkpoint = await snapshot(progress);
          return { written: recorder.write(name, checkpoint, config) };
        }
      : null,
  });
  const { params } = await readState(session);
  const values = params.map((param) => param.values);
  const report = resultOf(run, result, cost, weightsSha256(graph, masks, values));
  recorder.writeResult(report);
  return report;
}

function announce(run: PreparedRun, cost: NetworkCost): void {
  const { config, dataset, session, maskRecipe, loaders, recorder, start } = run;
  const { name, description, synthetic } = dataset;
  const planned = new Map(plannedLayers(run.plan).map((layer) => [layer.name, layer]));
  const layers = cost.layers.map((layer): LayerRecord => {
    const { kernel = '', choice = '', figures = '' } = planned.get(layer.name) ?? {};
    return { ...layer, kernel, tiles: choice, measured: figures };
  });
  recorder.emit({
    ...{
      type: 'planned',
      config: { ...config, outputDir: recorder.path },
      layers,
      maskHash: maskRecipe.hash,
    },
    ...{
      data: { name, description, synthetic },
      flopsRatio: flopsRatio(cost),
      memoryBytes: session.memory.total,
    },
    ...{ plan: run.plan, engine: session.engine, trainImages: loaders.train.images },
    stepsPerEpoch: loaders.train.stepsPerEpoch,
    totalSteps: totalSteps(config, loaders.train.stepsPerEpoch),
    firstStep: start.position.step,
  });
}

function resultOf(run: PreparedRun, fitted: FitResult, cost: NetworkCost, weights: string): ExperimentResult {
  const { config, maskRecipe, dataset, recorder } = run;
  const { position, best, test, status } = fitted;
  const { epochImages, epochLossSum, trainLoss, bestTestAccuracy } = position;
  const kept = cost.layers.reduce((sum, { density, numel }) => sum + density * numel, 0);
  const prunable = cost.layers.reduce((sum, { numel }) => sum + numel, 0);
  // What was asked for; a file of densities decides for itself.
  const density = maskRecipe.policy.startsWith('file:') ? kept / prunable : config.density;
  return {
    ...{ status, run_dir: recorder.path, arch: config.arch, ratio: maskRecipe.policy },
    sparsity: Math.round((1 - density) * 1e10) / 1e10,
    ...{ seed: config.seed, data: dataset.name },
    epochs: Math.ceil(position.step / position.stepsPerEpoch),
    steps: position.step,
    final: {
      train_loss: epochImages > 0 ? epochLossSum / epochImages : trainLoss,
      test_loss: test?.loss ?? null,
      test_accuracy: test?.accuracy ?? null,
    },
    best: best && {
      epoch: best.epoch,
      validation_accuracy: best.accuracy,
      test_loss: best.testLoss,
      test_accuracy: best.testAccuracy,
    },
    code_protocol: bestTestAccuracy === null ? null : { best_test_accuracy: bestTestAccuracy },
    images_per_second: position.seconds > 0 ? position.images / position.seconds : 0,
    flops_ratio: flopsRatio(cost),
    checkpoint: recorder.last?.file ?? null,
    checkpoint_bytes: recorder.last?.bytes ?? null,
    checkpoint_dense_bytes: recorder.last?.denseBytes ?? null,
    mask_sha256: maskRecipe.hash,
    weights_sha256: weights,
  };
}

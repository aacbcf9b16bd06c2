/**
 * The story: data and network → densities → masks → session → training → report (STYLE §2; SPEC 2, 3). A resumed
 * experiment enters it at the session, with a checkpoint in place of the first half.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Checkpoint, MaskRecipe } from './checkpoint/checkpoint.js';
import { findResumable, loadCheckpoint } from './checkpoint/load.js';
import { removeStrayFiles } from './checkpoint/save.js';
import { type ExperimentConfig, storedConfig } from './config.js';
import type { Dataset } from './data/index.js';
import type { Session } from './engine/session.js';
import { createTunedSession } from './engine/tile-cache.js';
import { ConfigError, EnvironmentError } from './errors.js';
import { GENERATOR_VERSION } from './random.js';
import type { DrawnNetwork } from './training/draw.js';
import type { ExperimentEvent, ExperimentResult } from './training/events.js';
import { startPosition } from './training/loop.js';
import {
  modelOf,
  type OwnParts,
  openData,
  planBatch,
  prepareTraining,
  trainingSessionOptions,
} from './training/prepare.js';
import { Recorder } from './training/recorder.js';
import { type Loaders, openLoaders, trainRun } from './training/run.js';
import { RunDirectory } from './training/run-directory.js';
import { writeState, writeWeights } from './training/state.js';

export { evaluateCheckpoint } from './evaluate.js';

export interface ExperimentHooks extends OwnParts {
  /** Aborting finishes the step, saves, and gives the result with status `stopped`. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: ExperimentEvent) => void) | undefined;
  /** false: no run directory and no checkpoints. Default true. */
  readonly record?: boolean | undefined;
}

/**
 * Runs an experiment from its first step.
 * @param config complete; `experimentConfig({ arch: 'resnet20', sparsity: 0.5 })` makes one from a few options
 * @throws {RunError} a loss became NaN, a checkpoint could not be written; {UsageError} the configuration asks for
 *   something that cannot be; {EnvironmentError} data or memory is missing; an AbortError when stopped before step 1
 */
export async function runExperiment(
  config: ExperimentConfig,
  hooks: ExperimentHooks = {},
): Promise<ExperimentResult> {
  const { signal, onEvent = () => {}, record = true } = hooks;
  throwIfAborted(signal);
  const recorder = new Recorder(record ? RunDirectory.create(config) : null, onEvent);
  const open: Opened[] = [];
  try {
    const notices = { onNotice: recorder.notice };
    const { network, dataset } = await prepareTraining(config, { ...hooks, ...notices });
    const { model, masks } = network;
    const { batchSize, accumulate } = planBatch(config, network, notices);
    const used = { batchSize, accumulate, arch: model.name, data: dataset.name, classes: dataset.classes };
    const decided = { ...config, ...used };
    const loaders = track(open, openLoaders(decided, dataset));
    const plan = config.plan === null ? {} : { plan: readPlan(config.plan) };
    const options = trainingSessionOptions(config, network, batchSize);
    const tuned = await createTunedSession(
      { ...options, ...plan, signal },
      { tune: config.tune, ...notices },
    );
    const session = track(open, tuned.session);
    await writeWeights(session, masks, network.initialWeights());
    throwIfAborted(signal);
    const start = { position: startPosition(loaders.train.stepsPerEpoch, config.epochs), best: null };
    const run = { dataset, loaders, session, masks, maskRecipe: recipeOf(config, network, hooks) };
    return await trainRun({ ...run, plan: tuned.plan, config: decided, start, recorder, signal });
  } catch (error) {
    // A library may reject with the signal's own reason, which need not be an error.
    if (signal?.aborted && !(error instanceof Error)) throwIfAborted(signal);
    throw error;
  } finally {
    await closeAll(open);
    recorder.finish();
  }
}

/**
 * Goes on with a stopped or killed run, bit for bit as if it had never stopped.
 * @param where the run directory, or one of its checkpoint files (`…/checkpoints/previous.rpck`)
 * @throws {CorruptError} the checkpoint is damaged: the newest whole one is named, and never taken unasked
 */
export async function resumeExperiment(
  where: string,
  hooks: ExperimentHooks = {},
): Promise<ExperimentResult> {
  const { signal, onEvent = () => {} } = hooks;
  throwIfAborted(signal);
  const { file, directory, notice } = await findResumable(where);
  const checkpoint = await loadCheckpoint(file);
  const { position, best, graph, masks, optimizer } = checkpoint;
  const { config, maskRecipe } = experimentOf(file, checkpoint);
  const strays = await removeStrayFiles(path.dirname(file));
  const recorder = new Recorder(RunDirectory.resume(directory, position.step), onEvent);
  const open: Opened[] = [];
  try {
    if (notice) recorder.notice(notice);
    for (const name of strays) recorder.notice(`Removed ${name}, which an interrupted save left behind.`);
    const model = modelOf(config.arch, graph);
    const { dataset } = await openData(config, { dataset: hooks.dataset, model });
    const loaders = track(open, openLoaders(config, dataset));
    requireSameData(file, position.stepsPerEpoch, loaders, dataset);
    const { device: engine, batchSize, threads, pin } = config;
    const settings = { engine, batchSize, threads, pin, weightDecay: optimizer.weightDecay };
    const options = { graph, masks, plan: checkpoint.plan, ...settings };
    const { session, plan } = await createTunedSession(options, { tune: 'off' });
    track(open, session);
    await writeState(session, checkpoint);
    const run = { config, dataset, loaders, session, plan, masks, maskRecipe, recorder, signal };
    return await trainRun({ ...run, start: { position, best } });
  } finally {
    await closeAll(open);
    recorder.close();
  }
}

type Opened = Loaders | Session;

function track<T extends Opened>(open: Opened[], resource: T): T {
  open.push(resource);
  return resource;
}

/** Sessions first: they may still read from the loaders. */
async function closeAll(open: readonly Opened[]): Promise<void> {
  for (const resource of [...open].reverse()) await resource.dispose();
}

/** How the masks were made, for the checkpoint. */
function recipeOf(config: ExperimentConfig, network: DrawnNetwork, { policy }: OwnParts): MaskRecipe {
  const { ratio, density, sampler, granularity, maskSeed, snipKeepMask } = config;
  return {
    ...{ policy: policy?.name ?? ratio, density, granularity, seed: maskSeed, generator: GENERATOR_VERSION },
    sampler: snipKeepMask && ratio === 'snip' ? 'criterion' : sampler,
    ...{ densities: network.densities, hash: network.maskHash },
  };
}

/** The configuration and the masks' recipe of a checkpoint that `rp run` wrote. */
function experimentOf(
  file: string,
  { config, maskRecipe, position }: Checkpoint,
): { config: ExperimentConfig; maskRecipe: MaskRecipe } {
  const stored = storedConfig(config);
  if (stored === null || maskRecipe === null || position.stepsPerEpoch === 0) {
    throw new ConfigError(
      `${file}: expected the configuration of an experiment, got none that can be gone on with.`,
    );
  }
  return { config: stored, maskRecipe };
}

/** The order of images is a function of their number: another set would go on with other batches, unnoticed. */
function requireSameData(file: string, stepsPerEpoch: number, { train }: Loaders, { name }: Dataset): void {
  if (train.stepsPerEpoch === stepsPerEpoch) return;
  throw new EnvironmentError(
    `${file}: expected training images for ${stepsPerEpoch} steps an epoch, got ${train.stepsPerEpoch} from ${name}. Give the data set that the run began with (RP_DATA).`,
  );
}

function readPlan(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`--plan ${file}: ${(error as Error).message}`);
  }
}

/** Throws an AbortError, whatever reason the signal was given. */
function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new DOMException('Stopped before the first step.', 'AbortError');
}

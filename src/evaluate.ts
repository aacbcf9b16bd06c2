/** `rp eval`: a checkpoint's network on the test images of its data set, or of another with as many classes. */
import { findResumable, loadCheckpoint } from './checkpoint/load.js';
import { weightsSha256 } from './checkpoint/weights-hash.js';
import { type ExperimentConfig, storedConfig } from './config.js';
import { type Dataset, openLoader } from './data/index.js';
import { createSession, planMemory } from './engine/create-session.js';
import { fitBatch } from './engine/memory.js';
import type { SessionOptions } from './engine/session.js';
import { experimentConfig } from './resolve-config.js';
import { memoryBudget, modelOf, openData } from './training/prepare.js';
import { writeNetwork } from './training/state.js';

export interface EvaluateOptions
  extends Partial<
    Pick<
      ExperimentConfig,
      'data' | 'dataDir' | 'workers' | 'batchSize' | 'device' | 'threads' | 'pin' | 'memory'
    >
  > {
  /** Images of one's own instead of those that `data` names. */
  readonly dataset?: Dataset | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onNotice?: ((message: string) => void) | undefined;
}

/** What `rp eval --json` prints. */
export interface EvaluationReport {
  readonly checkpoint: string;
  readonly arch: string;
  readonly data: string;
  /** Test images. */
  readonly images: number;
  readonly correct: number;
  /** In [0, 1]. */
  readonly accuracy: number;
  /** Mean −log p of the true class, natural logarithm (SPEC 4.3). */
  readonly nll: number;
  /** Optimiser steps and epochs the network was trained. */
  readonly step: number;
  readonly epoch: number;
  /** Kept share of the prunable weights. */
  readonly density: number;
  readonly mask_sha256: string | null;
  readonly weights_sha256: string;
}

/**
 * Evaluates a checkpoint with eval-mode batch norm.
 * @param where a `.rpck` file, or a run directory, whose last checkpoint is taken
 * @param options what is not given is as the run had it
 * @throws {CorruptError} the checkpoint is damaged; {EnvironmentError} its data set is not here
 */
export async function evaluateCheckpoint(
  where: string,
  options: EvaluateOptions = {},
): Promise<EvaluationReport> {
  const { dataset: own, signal, onNotice, ...said } = options;
  const { file, notice } = await findResumable(where);
  if (notice) onNotice?.(notice);
  const checkpoint = await loadCheckpoint(file);
  const { graph, masks, params, position, maskRecipe } = checkpoint;
  const stored = storedConfig(checkpoint.config);
  const settings = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  const base = stored ?? { ...experimentConfig({ arch: 'resnet20' }), device: checkpoint.engine };
  const config: ExperimentConfig = { ...base, ...settings, classes: null, imageSize: null };
  const { dataset } = await openData(config, { dataset: own, model: modelOf(graph.name, graph) });
  onNotice?.(dataset.description);
  const { device: engine, threads, pin } = config;
  // The run's choices: the same sums in the same order, to the last digit. Another engine has choices of its own.
  const replay = checkpoint.engine === engine ? { plan: checkpoint.plan } : {};
  const sessionOptions = (batchSize: number): SessionOptions => ({
    ...{ graph, masks, engine, threads, pin, batchSize, programs: ['eval'], ...replay },
  });
  const wanted = { batchSize: config.batchSize, accumulate: 1 };
  const bytesOf = (n: number) => planMemory(sessionOptions(n)).total;
  const { batchSize } = fitBatch(wanted, 'batchSize' in settings, memoryBudget(config), bytesOf);
  const session = await createSession(sessionOptions(batchSize));
  const loader = openLoader(dataset, { split: 'test', batchSize, workers: config.workers });
  try {
    await writeNetwork(session, checkpoint);
    const { images, correct, accuracy, nll } = await session.evaluateStream(loader, signal ? { signal } : {});
    const prunable = graph.params.filter((param) => param.prunable);
    const kept = graph.params.map((param, i) => (param.prunable ? (masks[i]?.nnz ?? param.numel) : 0));
    return {
      ...{ checkpoint: file, arch: graph.name, data: dataset.name, images, correct, accuracy, nll },
      step: position.step,
      epoch: position.stepsPerEpoch > 0 ? position.step / position.stepsPerEpoch : 0,
      density: kept.reduce((a, b) => a + b, 0) / prunable.reduce((sum, { numel }) => sum + numel, 0),
      mask_sha256: maskRecipe?.hash ?? null,
      weights_sha256: weightsSha256(
        graph,
        masks,
        params.map(({ values }) => values),
      ),
    };
  } finally {
    await session.dispose();
    loader.dispose();
  }
}

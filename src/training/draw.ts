/**
 * From a configuration to the network as it starts: layer-wise densities, masks, initial weights (SPEC 1.6, 2). What
 * the seeds decide is decided here, once; training only moves the kept weights.
 */
import * as fs from 'node:fs';
import type { Model } from '../architectures/index.js';
import type { ExperimentConfig } from '../config.js';
import { EnvironmentError } from '../errors.js';
import { prunableLayers } from '../graph/index.js';
import { degenerateLayers, type Granularity, type Mask, maskHash, sampleMasks } from '../masks/index.js';
import { type NetworkCost, networkCost } from '../metrics/flops.js';
import { findPolicy, layerDensities, type RatioPolicy, type Scores, saliencyMasks } from '../ratios/index.js';
import { initialWeights } from './initialise.js';

export interface DrawnNetwork {
  readonly model: Model;
  /** The policy's density of each prunable layer. */
  readonly densities: readonly number[];
  /** One per graph.params; null: every element kept. */
  readonly masks: readonly (Mask | null)[];
  readonly maskHash: string;
  /** Draws the initial values of every parameter, dense, row-major; the masks have not been applied. */
  readonly initialWeights: () => ReadonlyMap<string, Float32Array>;
  readonly cost: NetworkCost;
}

/** Scores every prunable weight of the dense network `weights`, for the policies that need it. */
export type MeasureScores = (
  criterion: 'snip' | 'grasp',
  weights: ReadonlyMap<string, Float32Array>,
) => Promise<readonly Scores[]>;

export interface DrawOptions {
  readonly config: ExperimentConfig;
  /** Built with the classes and the image size that will be trained. */
  readonly model: Model;
  /** Default: the one that `config.ratio` names. */
  readonly policy?: RatioPolicy | undefined;
  readonly measure: MeasureScores;
  /** Hears of layers that lost every weight, or some of their outputs. */
  readonly onNotice?: ((message: string) => void) | undefined;
}

function initialise(config: ExperimentConfig, model: Model, layerDensity?: (index: number) => number) {
  const { fan, scaled } = config.initialisation;
  return initialWeights(model.graph, {
    scheme: model.initialisation,
    seed: config.initSeed,
    fan,
    fanScale: (param, index) => {
      if (!param.prunable || scaled === 'off') return 1;
      return scaled === 'global' ? config.density : (layerDensity?.(index) ?? 1);
    },
  });
}

/** The text of `file:PATH`, or undefined for the other policies. */
function densityFile(ratio: string): string | undefined {
  if (!ratio.startsWith('file:')) return undefined;
  try {
    return fs.readFileSync(ratio.slice('file:'.length), 'utf8');
  } catch (error) {
    throw new EnvironmentError(`--ratio ${ratio}: ${(error as Error).message}`);
  }
}

export async function drawNetwork(options: DrawOptions): Promise<DrawnNetwork> {
  const { config, model, measure, onNotice } = options;
  const { graph } = model;
  const layers = prunableLayers(graph);
  const policy = options.policy ?? findPolicy(config.ratio);
  let scores: readonly Scores[] | undefined;
  if (policy.needs === 'saliency') {
    const scored =
      policy.name === 'snip' && config.snipInit === 'xavier'
        ? initialWeights(graph, { scheme: 'xavier', seed: config.initSeed })
        : initialise(config, model);
    scores = await measure(policy.name as 'snip' | 'grasp', scored);
  }
  const request = { policy, layers, density: config.density, ...(scores && { scores }) };
  const densities = layerDensities({
    ...request,
    options: { classifierDensity: config.classifierDensity, densityFile: densityFile(config.ratio) },
  });

  let masks: (Mask | null)[];
  if (config.snipKeepMask && policy.needs === 'saliency' && policy.name === 'snip') {
    masks = graph.params.map(() => null);
    for (const [l, mask] of saliencyMasks({ ...request, policy }).entries()) masks[layers[l]!.param] = mask;
  } else {
    const granularity = config.granularity as Granularity;
    masks = sampleMasks({ graph, densities, sampler: config.sampler, granularity, seed: config.maskSeed });
  }
  for (const { name, nnz, emptyOutputs, outputs } of degenerateLayers(graph, masks)) {
    onNotice?.(
      nnz === 0
        ? `${name}: the mask keeps none of its weights`
        : `${name}: ${emptyOutputs} of ${outputs} outputs keep no weight (${nnz} kept in all)`,
    );
  }
  const share = (index: number) => {
    const mask = masks[index];
    return mask ? mask.nnz / mask.numel : 1;
  };
  return {
    model,
    densities,
    masks,
    maskHash: maskHash(graph, masks),
    initialWeights: () => initialise(config, model, share),
    cost: networkCost(graph, densities, masks),
  };
}

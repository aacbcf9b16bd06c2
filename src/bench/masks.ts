/** The masks of a sparse contestant: the same from the same ratio and density in every process. */
import { type Graph, prunableLayers } from '../graph/index.js';
import { type Mask, sampleMasks } from '../masks/index.js';
import { flopsRatio, networkCost } from '../metrics/flops.js';
import { layerDensities } from '../ratios/index.js';

export interface BenchMasks {
  readonly masks: readonly (Mask | null)[];
  /** Sparse ÷ dense FLOPs of a step: arithmetic, shown beside what was measured. */
  readonly flopsRatio: number;
}

export function benchMasks(graph: Graph, ratio: string, density: number): BenchMasks {
  const densities = layerDensities({ policy: ratio, layers: prunableLayers(graph), density });
  const masks = sampleMasks({ graph, densities, sampler: 'bernoulli', granularity: 'weight', seed: 1 });
  return { masks, flopsRatio: flopsRatio(networkCost(graph, densities, masks)) };
}

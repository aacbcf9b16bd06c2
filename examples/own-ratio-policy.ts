/** A ratio policy of one's own: one density a layer from the layers' shapes, within the budget. */
import {
  buildModel,
  experimentConfig,
  fillBudget,
  layerDensities,
  prunableLayers,
  type RatioPolicy,
  runExperiment,
} from 'random-pruning';

/** Density ∝ 1 / √size: between uniform (∝ 1) and keeping the same number of weights in each layer (∝ 1 / size). */
const inverseRoot: RatioPolicy = {
  name: 'inverse_root',
  description: 'density ∝ 1 / √size',
  needs: 'shapes',
  densities: (layers, density) => fillBudget(layers, density, ({ numel }) => 1 / Math.sqrt(numel)),
};

const layers = prunableLayers(buildModel('resnet8-4').graph);
export const densities = layerDensities({ policy: inverseRoot, layers, density: 0.2 });
for (const [i, { name }] of layers.entries()) console.log(`${name.padEnd(28)} ${densities[i]!.toFixed(4)}`);

const config = experimentConfig({
  arch: 'resnet8-4',
  sparsity: 0.8,
  data: 'synthetic',
  maxSteps: 20,
  batchSize: 32,
  threads: 1,
});
export const result = await runExperiment(config, { policy: inverseRoot, record: false });
console.log(`${result.ratio}: test accuracy ${result.final.test_accuracy}`);

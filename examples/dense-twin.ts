/**
 * A sparse network beside its dense twin: the same seed gives both the same initial weights, up to the mask, and the
 * same batches in the same order. Claimed and measured figures stand side by side.
 */
import { type ExperimentResult, experimentConfig, runExperiment } from 'random-pruning';

const shared = { arch: 'resnet8-4', data: 'synthetic', seed: 1, maxSteps: 40, batchSize: 32, threads: 1 };

async function train(sparsity: number): Promise<ExperimentResult> {
  const config = experimentConfig({ ...shared, ...(sparsity > 0 && { ratio: 'uniform', sparsity }) });
  return runExperiment(config, { record: false });
}

export const dense = await train(0);
export const sparse = await train(0.9);

for (const { ratio, final, flops_ratio, images_per_second } of [dense, sparse]) {
  console.log(
    `${ratio.padEnd(8)} test loss ${final.test_loss?.toFixed(3)}  FLOPs ×${flops_ratio.toFixed(2)} (arithmetic)  ` +
      `${images_per_second.toFixed(0)} img/s, ×${(images_per_second / dense.images_per_second).toFixed(2)} (measured)`,
  );
}

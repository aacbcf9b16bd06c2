/** The shortest run: a sparse ResNet-8 of width 4 on generated images. `record: false` keeps no run directory. */
import { experimentConfig, runExperiment } from 'random-pruning';

const config = experimentConfig({
  arch: 'resnet8-4',
  ratio: 'erk',
  sparsity: 0.8,
  data: 'synthetic',
  epochs: 1,
  maxSteps: 90,
  batchSize: 32,
  threads: 1, // enough for a network this small
  logInterval: 30,
});

export const losses: number[] = [];
export const result = await runExperiment(config, {
  record: false,
  onEvent: (event) => {
    if (event.type === 'notice') console.log(event.message);
    if (event.type === 'progress') {
      losses.push(event.loss);
      console.log(
        `step ${event.step}: loss ${event.loss.toFixed(3)}, ${event.imagesPerSecond.toFixed(0)} img/s`,
      );
    }
  },
});
console.log(`test accuracy ${result.final.test_accuracy}, weights ${result.weights_sha256.slice(0, 8)}`);

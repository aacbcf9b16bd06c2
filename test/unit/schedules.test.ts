import { describe, expect, it } from 'vitest';
import { experimentConfig } from '../../src/resolve-config.js';
import { learningRate, learningRates } from '../../src/training/schedules.js';

describe('learningRate', () => {
  it('is 0.1, 0.01, 0.001 over the 160 epochs of CIFAR (SPEC 3.1)', () => {
    const config = experimentConfig({ arch: 'resnet20' });
    const at = (epoch: number) => learningRate(config, epoch);
    expect([at(0), at(79)]).toEqual([0.1, 0.1]);
    for (const epoch of [80, 119]) expect(at(epoch)).toBeCloseTo(0.01, 15);
    for (const epoch of [120, 159]) expect(at(epoch)).toBeCloseTo(0.001, 15);
  });

  it('warms up in steps of a sixth over the first five epochs of ImageNet', () => {
    const config = experimentConfig({ arch: 'resnet50', sparsity: 0.7 });
    const rates = [0, 1, 2, 3, 4, 5, 29, 30, 60, 89, 90].map((epoch) => learningRate(config, epoch));
    const expected = [1, 2, 3, 4, 5].map((e) => (0.4 * e) / 6).concat(0.4, 0.4, 0.04, 0.004, 0.004, 0.0004);
    for (const [i, rate] of rates.entries()) expect(rate).toBeCloseTo(expected[i]!, 15);
  });

  it('decays a dense ImageNet network at 30, 60 and 80 of 90 epochs', () => {
    const config = experimentConfig({ arch: 'resnet50' });
    for (const [epoch, rate] of [29, 30, 60, 79, 80].map((e) => [e, learningRate(config, e)] as const)) {
      expect(rate).toBeCloseTo(epoch < 30 ? 0.4 : epoch < 60 ? 0.04 : epoch < 80 ? 0.004 : 0.0004, 15);
    }
  });

  it('gives every step the rate of its epoch', () => {
    const options = { lr: 1, warmupEpochs: 1, milestones: [2], lrDecay: 0.5 };
    expect(learningRates(options, 2, 6, 3)).toEqual([0.5, 1, 1, 1, 0.5, 0.5]);
  });
});

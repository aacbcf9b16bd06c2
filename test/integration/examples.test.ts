/** The programs in examples/, run as they stand. */
import { describe, expect, it, vi } from 'vitest';

vi.spyOn(console, 'log').mockImplementation(() => undefined);

describe('examples', () => {
  it('train: the loss falls', async () => {
    const { result, losses } = await import('../../examples/train.js');
    expect(result).toMatchObject({
      status: 'done',
      steps: 90,
      run_dir: null,
      ratio: 'erk',
      sparsity: 0.8,
      data: 'synthetic',
    });
    expect(losses).toHaveLength(3);
    expect(losses[2]).toBeLessThan(losses[0]!);
    expect(result.final.test_accuracy).toBeGreaterThan(0.1);
    expect(result.flops_ratio).toBeLessThan(0.6);
    expect(result.weights_sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it('own architecture: its own parameters are trained', async () => {
    const { model, result } = await import('../../examples/own-architecture.js');
    // 432 + 2304 + 4608 convolution weights, 320 of the classifier, 2 × 64 of batch norms, 10 biases.
    expect(model.params).toBe(432 + 2304 + 4608 + 320 + 128 + 10);
    expect(result).toMatchObject({ status: 'done', arch: 'three-layers', sparsity: 0.5, steps: 40 });
    expect(result.final.test_loss).toBeLessThan(Math.log(10) + 0.5);
  });

  it('own ratio policy: the densities meet the budget and the run uses them', async () => {
    const { densities, result } = await import('../../examples/own-ratio-policy.js');
    expect(densities[0]).toBeGreaterThan(densities.at(-3)!);
    expect(Math.max(...densities)).toBeLessThanOrEqual(1);
    expect(result).toMatchObject({ status: 'done', ratio: 'inverse_root', sparsity: 0.8 });
  });

  it('dense twin: one seed, one step count, a tenth of the arithmetic', async () => {
    const { dense, sparse } = await import('../../examples/dense-twin.js');
    expect(dense).toMatchObject({ ratio: 'dense', sparsity: 0, flops_ratio: 1, steps: 40 });
    expect(sparse).toMatchObject({ ratio: 'uniform', sparsity: 0.9, steps: 40 });
    expect(sparse.flops_ratio).toBeCloseTo(0.1, 10);
    expect(sparse.weights_sha256).not.toBe(dense.weights_sha256);
  });
});

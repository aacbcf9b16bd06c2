import { describe, expect, it } from 'vitest';
import { configFields, memoryLimit, saveInterval, storedConfig } from '../../src/config.js';
import { type ConfigLayer, experimentConfig, resolveConfig } from '../../src/resolve-config.js';

const layer = (name: string, values: object): ConfigLayer => ({
  values,
  where: (path) => `${name}:${path.join('.')}`,
});

describe('experimentConfig', () => {
  it('takes the CIFAR recipe of SPEC 3.1 for a CIFAR network', () => {
    const config = experimentConfig({ arch: 'resnet20', ratio: 'erk', sparsity: 0.5 });
    expect(config).toMatchObject({
      density: 0.5,
      preset: 'cifar',
      epochs: 160,
      batchSize: 128,
      accumulate: 1,
      lr: 0.1,
      nesterov: true,
      weightDecay: 5e-4,
      weightDecayOn: 'all',
      labelSmoothing: 0,
      milestones: [80, 120],
      fitBatch: true,
      dropLast: false,
      seed: 17,
      initSeed: 17,
      maskSeed: 17,
      dataSeed: 17,
    });
  });

  it('takes the ImageNet recipe, longer for a sparse network than for a dense one', () => {
    const sparse = experimentConfig({ arch: 'wrn50', ratio: 'snip', sparsity: 0.5 });
    expect(sparse).toMatchObject({
      preset: 'imagenet',
      batchSize: 192,
      accumulate: 4,
      lr: 0.4,
      nesterov: false,
      labelSmoothing: 0.1,
      warmupEpochs: 5,
      weightDecayOn: 'not-bn',
      epochs: 100,
      milestones: [30, 60, 90],
      dropLast: true,
    });
    const dense = experimentConfig({ arch: 'resnet50' });
    expect(dense).toMatchObject({ ratio: 'dense', density: 1, epochs: 90, milestones: [30, 60, 80] });
  });

  it('moves the milestones with the number of epochs, as the code of the paper does', () => {
    expect(experimentConfig({ arch: 'resnet20', epochs: 10 }).milestones).toEqual([5, 7]);
    expect(experimentConfig({ arch: 'resnet20', epochs: 2 }).milestones).toEqual([1, 1]);
    expect(experimentConfig({ arch: 'resnet20', epochs: 10, milestones: [3] }).milestones).toEqual([3]);
  });

  it('reads sparsity as a decimal: 0.8 is density 0.2, not 0.19999999999999996', () => {
    expect(experimentConfig({ arch: 'resnet20', sparsity: 0.8 }).density).toBe(0.2);
    expect(experimentConfig({ arch: 'resnet20', sparsity: 0.9 }).density).toBe(0.1);
  });

  it('chooses erk when only a sparsity is given', () => {
    expect(experimentConfig({ arch: 'resnet20', sparsity: 0.5 }).ratio).toBe('erk');
  });

  it.each([
    [{ sparsity: 50 }, 'sparsity: expected a number in [0, 1), got 50. Did you mean 0.5?'],
    [{ epochs: 1.5 }, 'epochs: expected a whole number >= 1, got 1.5. Did you mean 2?'],
    [
      { granularity: 'kernel' },
      'granularity: expected weight, filter or block:OxI (block:16x8, say), got "kernel".',
    ],
    [{ sampler: 'bernouli' }, 'Did you mean "bernoulli"?'],
    [{ batchsize: 3 }, 'batchsize: unknown setting "batchsize"'],
    [{ initialisation: { fann: 'in' } }, 'Did you mean "initialisation.fan"?'],
    [{ saveEvery: '200' }, 'saveEvery: expected a number of epochs (1ep) or of steps (200it), got "200".'],
    [{ ratio: 'snip' }, 'sparsity: missing'],
    [{ ratio: 'dense', sparsity: 0.5 }, 'ratio: dense keeps every weight, but density is 0.5'],
    [{ sparsity: 0.5, density: 0.5 }, 'sparsity: given together with density'],
    [{ device: 'cuda:1' }, 'device cuda:1: this build has no CUDA back-end. Pass --device cpu.'],
  ])('refuses %j, saying what was expected', (options, message) => {
    expect(() => experimentConfig({ arch: 'resnet20', ...options } as never)).toThrow(message);
  });

  it('needs a network', () => {
    expect(() => experimentConfig({ sparsity: 0.5 })).toThrow('arch: missing');
  });
});

describe('resolveConfig', () => {
  it('lets the later layer win, value by value', () => {
    const config = resolveConfig([
      layer('file', {
        arch: 'resnet20',
        sparsity: 0.5,
        lr: 0.2,
        momentum: 0.8,
        initialisation: { fan: 'out' },
      }),
      layer('env', { lr: 0.3 }),
      layer('flag', { density: 0.1, initialisation: { scaled: 'layer' } }),
    ]);
    expect(config).toMatchObject({
      density: 0.1,
      lr: 0.3,
      momentum: 0.8,
      initialisation: { fan: 'out', scaled: 'layer' },
    });
  });

  it('reads back its own result unchanged', () => {
    const config = experimentConfig({
      arch: 'resnet20',
      ratio: 'erk',
      sparsity: 0.5,
      seed: 3,
      maskSeed: 4,
      epochs: 7,
    });
    expect(resolveConfig([layer('file', config)])).toEqual(config);
  });

  it('sets every seed from a stronger --seed, though the file spelled them out', () => {
    const file = experimentConfig({ arch: 'resnet20', seed: 3 });
    expect(resolveConfig([layer('file', file), layer('flag', { seed: 4 })])).toMatchObject({
      seed: 4,
      initSeed: 4,
      maskSeed: 4,
      dataSeed: 4,
    });
    expect(resolveConfig([layer('file', file), layer('flag', { seed: 4, dataSeed: 9 })]).dataSeed).toBe(9);
  });

  it('never lowers a batch size that was asked for', () => {
    expect(experimentConfig({ arch: 'resnet20', batchSize: 64 }).fitBatch).toBe(false);
    const file = experimentConfig({ arch: 'resnet20' });
    expect(resolveConfig([layer('file', file)]).fitBatch).toBe(true);
    expect(resolveConfig([layer('file', file), layer('flag', { batchSize: 64 })]).fitBatch).toBe(false);
  });

  it('names the source of a bad value', () => {
    expect(() => resolveConfig([layer('run.yaml', { arch: 'resnet20', lr: 'fast' })])).toThrow(
      'run.yaml:lr: expected a number >= 0, got "fast".',
    );
  });
});

describe('storedConfig', () => {
  const config = experimentConfig({ arch: 'resnet20', sparsity: 0.5, epochs: 3, tune: 'off' });

  it('reads what a checkpoint holds, by JSON', () => {
    expect(storedConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it('reads those of versions without --tune', () => {
    const { tune: _, ...old } = config;
    expect(storedConfig({ ...old, pin: false })).toEqual({ ...config, pin: false, tune: 'once' });
  });

  it.each([
    ['nothing', null],
    ['no configuration', {}],
    ['one without its epochs', { ...config, epochs: undefined }],
    ['one with a setting that is none', { ...config, epoch: 3 }],
  ])('takes %s for none', (_, stored) => {
    expect(storedConfig(stored)).toBeNull();
  });
});

describe('values', () => {
  it('reads sizes and shares of memory', () => {
    expect(memoryLimit('80%', 1000)).toBe(800);
    expect(memoryLimit('12GB', 0)).toBe(12e9);
    expect(memoryLimit('1.5GiB', 0)).toBe(1.5 * 2 ** 30);
    expect(memoryLimit('900k', 0)).toBe(900_000);
    expect(memoryLimit('77B', 0)).toBe(77);
  });

  it('reads save intervals', () => {
    expect(saveInterval('1ep')).toEqual({ unit: 'epoch', every: 1 });
    expect(saveInterval('200it')).toEqual({ unit: 'step', every: 200 });
  });

  it('describes every field a user can set', () => {
    for (const field of configFields) {
      expect(field.expects, field.path.join('.')).toMatch(/\w/);
      expect(field.flag, field.path.join('.')).toMatch(/--[a-z]/);
    }
  });
});

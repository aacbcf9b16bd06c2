import { describe, expect, it } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import { fans, initialWeights } from '../../src/training/initialise.js';

const moments = (values: Float32Array) => {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, deviation: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length) };
};
/** Within five standard errors of a normal's deviation. */
const near = (values: Float32Array, deviation: number) => {
  const { mean, deviation: got } = moments(values);
  expect(Math.abs(mean)).toBeLessThan((5 * deviation) / Math.sqrt(values.length));
  expect(Math.abs(got / deviation - 1)).toBeLessThan(5 / Math.sqrt(2 * values.length));
};

describe('initialWeights (SPEC 1.6)', () => {
  it('CIFAR ResNet: Kaiming fan-in for convolutions and classifier, U(±1/√fan_in) bias, unit batch norm', () => {
    const { graph, initialisation } = buildModel('resnet20');
    const weights = initialWeights(graph, { scheme: initialisation, seed: 17 });
    expect([...weights.keys()]).toEqual(graph.params.map(({ name }) => name));
    for (const { name, kind, shape } of graph.params) {
      const values = weights.get(name)!;
      if (kind === 'conv' || kind === 'linear') near(values, Math.sqrt(2 / fans(shape).fanIn));
      if (kind === 'gamma') expect(new Set(values)).toEqual(new Set([1]));
      if (kind === 'beta') expect(new Set(values)).toEqual(new Set([0]));
    }
    const bias = weights.get('fc.bias')!;
    expect(Math.max(...bias.map(Math.abs))).toBeLessThanOrEqual(1 / Math.sqrt(64));
    expect(new Set(bias).size).toBe(10);
  });

  it('VGG: Kaiming fan-out, classifier N(0, 0.01²) with zero bias', () => {
    const { graph, initialisation } = buildModel('vgg11');
    const weights = initialWeights(graph, { scheme: initialisation, seed: 17 });
    near(weights.get('feature.0.weight')!, Math.sqrt(2 / (64 * 9)));
    near(weights.get('classifier.weight')!, 0.01);
    expect([...weights.get('classifier.bias')!]).toEqual(new Array(10).fill(0));
  });

  it('ImageNet: fan-in by default, fan-out on request, default uniform classifier', () => {
    const { graph, initialisation } = buildModel('resnet18');
    const inward = initialWeights(graph, { scheme: initialisation, seed: 17 });
    const outward = initialWeights(graph, { scheme: initialisation, seed: 17, fan: 'out' });
    near(inward.get('conv1.weight')!, Math.sqrt(2 / (3 * 49)));
    near(outward.get('conv1.weight')!, Math.sqrt(2 / (64 * 49)));
    const fc = inward.get('fc.weight')!;
    near(fc, 1 / Math.sqrt(3 * 512));
    expect(fc.reduce((a, b) => Math.max(a, Math.abs(b)), 0)).toBeLessThanOrEqual(
      Math.fround(1 / Math.sqrt(512)),
    );
  });

  it('is keyed by seed and parameter', () => {
    const { graph } = buildModel('resnet8-4');
    const draw = (seed: number) =>
      initialWeights(graph, { scheme: 'cifar-resnet', seed }).get('blocks.0.conv1.weight')!;
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    const weights = initialWeights(graph, { scheme: 'cifar-resnet', seed: 1 });
    expect(weights.get('blocks.0.conv1.weight')).not.toEqual(weights.get('blocks.0.conv2.weight'));
  });

  it('scales the fan by what fanScale says', () => {
    const { graph } = buildModel('resnet20');
    const plain = initialWeights(graph, { scheme: 'cifar-resnet', seed: 1 }).get('conv.weight')!;
    const scaled = initialWeights(graph, { scheme: 'cifar-resnet', seed: 1, fanScale: () => 0.25 }).get(
      'conv.weight',
    )!;
    for (let i = 0; i < plain.length; i++) expect(scaled[i]).toBeCloseTo(2 * plain[i]!, 5);
  });
});

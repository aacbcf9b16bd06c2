import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import { flopsRatio, networkCost } from '../../src/metrics/flops.js';

interface Case {
  policy: string;
  sparsity: number;
  density: number[];
  macs_sparse: number;
  macs_ratio: number;
}
const golden = (name: string): { cases: Case[] } =>
  JSON.parse(readFileSync(new URL(`../fixtures/golden/density_${name}.json`, import.meta.url), 'utf8'));

describe('networkCost (SPEC 4.7)', () => {
  it.each([
    ['resnet20', 'resnet20_w16_c10'],
    ['vgg16', 'vgg16_c10'],
    ['wrn50', 'wrn50_2'],
  ])('%s: sparse MACs of every golden case', (arch, file) => {
    const { graph, params, macs } = buildModel(arch);
    const masks = graph.params.map(() => null);
    for (const { density, macs_sparse, macs_ratio } of golden(file).cases) {
      if (density === null || density.some((d) => d < 0)) continue;
      const cost = networkCost(graph, density, masks);
      expect(cost.params).toBe(params);
      expect(cost.macs).toBe(macs);
      expect(Math.abs(cost.macsSparse / macs_sparse - 1)).toBeLessThan(1e-12);
      expect(Math.abs(flopsRatio(cost) - macs_ratio)).toBeLessThan(1e-12);
    }
  });

  it('ERK ResNet-50 costs 0.414 and 0.242 of dense at sparsity 0.8 and 0.9 (RigL publishes 0.42 and 0.24)', () => {
    const { graph } = buildModel('resnet50');
    for (const [sparsity, expected] of [
      [0.8, 0.414],
      [0.9, 0.242],
    ] as const) {
      const { density } = golden('resnet50').cases.find(
        (c) => c.policy === 'ERK' && c.sparsity === sparsity,
      )!;
      const ratio = flopsRatio(
        networkCost(
          graph,
          density,
          graph.params.map(() => null),
        ),
      );
      expect(Math.abs(ratio - expected)).toBeLessThan(5e-4);
    }
  });
});

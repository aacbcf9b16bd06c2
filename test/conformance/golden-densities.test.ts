/** Every density the official code computes, to 1e-12 (SPEC 2 and 9). */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { layerDensities } from '../../src/ratios/index.js';
import { sparsityToDensity } from '../../src/resolve-config.js';

const golden = new URL('../fixtures/golden/', import.meta.url);

interface Case {
  readonly policy: string;
  readonly sparsity: number;
  readonly density_target: number;
  readonly density: readonly number[];
  readonly nnz_round_total: number;
  readonly macs_sparse: number;
  readonly degenerate?: string;
}

for (const file of readdirSync(golden).filter((name) => name.startsWith('density_'))) {
  const { layers, cases } = JSON.parse(readFileSync(new URL(file, golden), 'utf8'));
  const policies = [...new Set<string>(cases.map(({ policy }: Case) => policy))];
  describe(file, () => {
    test.each(policies)('%s', (policy) => {
      for (const expected of cases.filter((each: Case) => each.policy === policy) as Case[]) {
        const density = sparsityToDensity(expected.sparsity);
        expect(density).toBe(expected.density_target);
        const ours = () => layerDensities({ policy: policy.toLowerCase(), layers, density });
        if (expected.degenerate) {
          expect(ours).toThrow(/keeps \d+ of \d+ weights, fewer than the \d+ of fc\.weight alone/);
          continue;
        }
        const densities = ours();
        for (const [l, value] of densities.entries()) {
          expect(
            Math.abs(value - expected.density[l]!),
            `${layers[l].name} at ${expected.sparsity}`,
          ).toBeLessThanOrEqual(1e-12);
        }
        const counts = densities.map((value, l) => Math.floor(value * layers[l].numel + 0.5));
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(expected.nnz_round_total);
      }
    });
  });
}

/** The laws every policy keeps (STYLE §5), the saliency rules of SPEC 2.5 and 2.6, density files, and the errors. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PrunableLayer } from '../../src/graph/index.js';
import {
  findPolicy,
  layerDensities,
  type RatioPolicy,
  ratioPolicies,
  type Scores,
  saliencyMasks,
} from '../../src/ratios/index.js';
import { kthLargest } from '../../src/ratios/select.js';

const layer = (name: string, shape: number[]): PrunableLayer => {
  const numel = shape.reduce((product, size) => product * size, 1);
  return { name, shape, numel, macs: numel, param: 0 };
};
const total = (layers: readonly PrunableLayer[]) => layers.reduce((sum, { numel }) => sum + numel, 0);
const kept = (layers: readonly PrunableLayer[], densities: readonly number[]) =>
  layers.reduce((sum, { numel }, l) => sum + numel * densities[l]!, 0);

const size = fc.integer({ min: 1, max: 300 });
const kernel = fc.constantFrom(1, 3, 5, 7);
const conv = fc.tuple(size, size, kernel, kernel).map((shape) => [...shape]);
/** One convolution at least, then anything, then a classifier. */
const network = fc
  .tuple(
    conv,
    fc.array(
      fc.oneof(
        conv,
        fc.tuple(size, size).map((shape) => [...shape]),
      ),
      { maxLength: 12 },
    ),
    fc.tuple(size, size),
  )
  .map(([first, middle, last]) => [first, ...middle, [...last]].map((shape, l) => layer(`l${l}`, shape)));
const density = fc.oneof(
  fc.integer({ min: 1, max: 100 }).map((percent) => percent / 100),
  fc.double({ min: 1e-3, max: 1, noNaN: true }),
);

/** Infeasible budgets are errors; the laws hold for the rest. */
function feasible(policy: RatioPolicy, layers: readonly PrunableLayer[], d: number): number[] | null {
  try {
    return layerDensities({ policy, layers, density: d });
  } catch (error) {
    expect((error as Error).message).toMatch(
      /--ratio (erk_plus|uniform_plus|uniform_plus_exact): .*(keeps|even dense)/,
    );
    return null;
  }
}

const shapePolicies = ratioPolicies.filter(({ needs }) => needs === 'shapes');

describe.each(shapePolicies)('$name', (policy) => {
  test('densities lie in [0, 1] and repeat', () => {
    fc.assert(
      fc.property(network, density, (layers, d) => {
        const densities = feasible(policy, layers, d);
        for (const value of densities ?? []) {
          expect(value).toBeGreaterThanOrEqual(0);
          expect(value).toBeLessThanOrEqual(1);
        }
        expect(feasible(policy, layers, d)).toEqual(densities);
      }),
    );
  });

  test('keeps the budget', ({ skip }) => {
    const reason = policy.breaks?.budget;
    skip(reason !== undefined, reason);
    fc.assert(
      fc.property(network, density, (layers, d) => {
        const densities = feasible(policy, layers, d);
        if (densities) expect(Math.abs(kept(layers, densities) / total(layers) - d)).toBeLessThan(1e-12);
      }),
    );
  });

  test('a larger budget thins no layer', ({ skip }) => {
    const reason = policy.breaks?.monotone;
    skip(reason !== undefined, reason);
    fc.assert(
      fc.property(network, density, density, (layers, a, b) => {
        const thin = feasible(policy, layers, Math.min(a, b));
        const thick = feasible(policy, layers, Math.max(a, b));
        thin?.forEach((value, l) => {
          if (thick) expect(thick[l]!).toBeGreaterThanOrEqual(value - 1e-12);
        });
      }),
    );
  });

  test('density 1 keeps every weight', () => {
    fc.assert(
      fc.property(network, (layers) => {
        expect(layerDensities({ policy, layers, density: 1 })).toEqual(layers.map(() => 1));
      }),
    );
  });
});

describe('uniform_plus misses the budget as the paper says', () => {
  const layers = [layer('first', [16, 3, 3, 3]), layer('middle', [32, 16, 3, 3]), layer('last', [10, 32])];
  const [first, , last] = layers.map(({ numel }) => numel) as [number, number, number];
  test('over by (1-d) n_1 for d >= 0.2', () => {
    const densities = layerDensities({ policy: 'uniform_plus', layers, density: 0.2 });
    expect(kept(layers, densities) - 0.2 * total(layers)).toBeCloseTo(0.8 * first, 9);
  });
  test('under by u (n_1 + n_L) below', () => {
    const densities = layerDensities({ policy: 'uniform_plus', layers, density: 0.19 });
    expect(0.19 * total(layers) - kept(layers, densities)).toBeCloseTo(densities[1]! * (first + last), 9);
  });
});

describe('erk_plus', () => {
  const layers = [layer('a', [64, 64, 3, 3]), layer('b', [128, 64, 3, 3]), layer('fc', [100, 128])];
  test('holds the classifier at the density asked for, at the same budget', () => {
    for (const classifierDensity of [0, 0.25, 1]) {
      const densities = layerDensities({
        policy: 'erk_plus',
        layers,
        density: 0.3,
        options: { classifierDensity },
      });
      expect(densities[2]).toBe(classifierDensity);
      expect(kept(layers, densities)).toBeCloseTo(0.3 * total(layers), 6);
    }
  });
  test('says why a budget is infeasible', () => {
    const at = (density: number, classifierDensity?: number) => () =>
      layerDensities({ policy: 'erk_plus', layers, density, options: { classifierDensity } });
    expect(at(0.05)).toThrow(
      /density 0\.05 keeps 6169 of 123392 weights, fewer than the 12800 of fc alone\. Lower --classifier-density to 0\.48/,
    );
    expect(at(0.99, 0.2)).toThrow(
      /even dense other layers stay below density 0\.99\. Raise --classifier-density/,
    );
    expect(at(0.5, 1.5)).toThrow(/--classifier-density: expected a number in \[0, 1\], got 1\.5/);
    expect(() => layerDensities({ policy: 'erk_plus', layers: layers.slice(0, 2), density: 0.5 })).toThrow(
      /no linear layer/,
    );
  });
});

describe('the k-th largest', () => {
  const values = fc.double({ noNaN: true, noDefaultInfinity: true });
  test.each([
    [
      'floats',
      (numbers: number[]): Scores =>
        Float32Array.from(numbers, (x) => Math.fround(Math.max(-3e38, Math.min(3e38, x)))),
    ],
    ['doubles', (numbers: number[]): Scores => Float64Array.from(numbers)],
  ])('equals that of a sort: %s', (_, make) => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(values, fc.integer({ min: -3, max: 3 })), { minLength: 1 }),
        fc.nat(),
        fc.nat(),
        (numbers, at, cut) => {
          const all = make(numbers);
          const k = (at % all.length) + 1;
          const split = cut % all.length;
          const sorted = [...all].sort((a, b) => b - a);
          // + 0: -0 and 0 are one score.
          expect(kthLargest([all.slice(0, split), all.slice(split)], k) + 0).toBe(sorted[k - 1]! + 0);
        },
      ),
      { numRuns: 400 },
    );
  });
  test('reads views into larger buffers', () => {
    const buffer = Float64Array.of(9, 1, 2, 3, 9);
    expect(kthLargest([buffer.subarray(1, 4)], 1)).toBe(3);
  });
  test.each([Float32Array, Float64Array])('refuses NaN and infinities (%o)', (Type) => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(() => kthLargest([Type.of(1, 2), Type.of(3, bad)], 2)).toThrow(
        /got (NaN|-?Infinity) for weight 1 of layer 1/,
      );
    }
  });
});

describe('saliency policies', () => {
  const layers = [layer('a', [2, 3]), layer('b', [4, 1])];
  const bitsOf = ({ bits, numel }: { bits: Uint8Array; numel: number }) =>
    Array.from({ length: numel }, (_, i) => (bits[i >> 3]! >> (i & 7)) & 1);

  test('snip keeps trunc(d N) of the largest, and ties with the last of them', () => {
    const scores = [Float32Array.of(5, 1, 4, 1, 3, 2), Float32Array.of(9, 0, 3, 0)];
    // trunc(0.45 * 10) = 4: 9, 5, 4, 3, and the other 3.
    expect(layerDensities({ policy: 'snip', layers, density: 0.45, scores })).toEqual([3 / 6, 2 / 4]);
    expect(saliencyMasks({ policy: 'snip', layers, density: 0.45, scores }).map(bitsOf)).toEqual([
      [1, 0, 1, 0, 1, 0],
      [1, 0, 1, 0],
    ]);
  });

  test('grasp removes the trunc((1-d) N) - 1 largest', () => {
    const scores = [Float64Array.of(-5, 1, 4, 2, -3, 2.5), Float64Array.of(9, 0, 3, -1)];
    // trunc(0.7 * 10) = 7, in doubles (1 - 0.3) * 10 = 7: the 7th largest, 0, stays with those below it.
    expect(layerDensities({ policy: 'grasp', layers, density: 0.3, scores })).toEqual([2 / 6, 2 / 4]);
    expect(saliencyMasks({ policy: 'grasp', layers, density: 0.3, scores }).map(({ nnz }) => nnz)).toEqual([
      2, 2,
    ]);
    expect(layerDensities({ policy: 'grasp', layers, density: 1, scores })).toEqual([1, 1]);
  });

  test('without ties the budget holds to two weights, the masks are the densities, and more budget thins no layer', () => {
    const unique = fc.uniqueArray(fc.float({ noNaN: true, noDefaultInfinity: true }), {
      minLength: 10,
      selector: (score) => score + 0,
      maxLength: 10,
    });
    fc.assert(
      fc.property(
        unique,
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom('snip', 'grasp'),
        (all, a, b, policy) => {
          const scores = [Float32Array.from(all.slice(0, 6)), Float32Array.from(all.slice(6))];
          const at = (tenths: number) => layerDensities({ policy, layers, density: tenths / 10, scores });
          const masks = saliencyMasks({ policy, layers, density: a / 10, scores });
          expect(at(a)).toEqual(masks.map(({ nnz, numel }) => nnz / numel));
          expect(masks.map((mask) => bitsOf(mask).reduce((sum, bit) => sum + bit, 0))).toEqual(
            masks.map(({ nnz }) => nnz),
          );
          // One by truncation, another by GraSP's k − 1: trunc((1 − 0.8) · 10) is 1, so none of 10 goes.
          expect(Math.abs(kept(layers, at(a)) - a)).toBeLessThan(2 + 1e-9);
          const [thin, thick] = a < b ? [at(a), at(b)] : [at(b), at(a)];
          thin.forEach((value, l) => {
            expect(thick[l]!).toBeGreaterThanOrEqual(value);
          });
        },
      ),
    );
  });

  test('say what is missing', () => {
    const scores = [Float32Array.of(1, 2, 3, 4, 5, 6), Float64Array.of(1, 2, 3, 4)];
    expect(() => layerDensities({ policy: 'snip', layers, density: 0.5 })).toThrow(
      /expected scores of 2 layers, got none/,
    );
    expect(() => layerDensities({ policy: 'snip', layers, density: 0.5, scores })).toThrow(
      /expected 4 scores of b in a Float32Array/,
    );
    expect(() =>
      layerDensities({ policy: 'snip', layers, density: 0.01, scores: [scores[0]!, new Float32Array(4)] }),
    ).toThrow(/keeps none of 10/);
    expect(() => saliencyMasks({ policy: 'erk', layers, density: 0.5, scores })).toThrow(
      /--ratio erk: it has no positions/,
    );
  });
});

describe('file', () => {
  const layers = [layer('conv.weight', [16, 3, 3, 3]), layer('fc.weight', [10, 16])];
  const read = (densityFile: string, density = 1) =>
    layerDensities({ policy: 'file:x', layers, density, options: { densityFile } });
  test.each([
    ['a map', '{"fc.weight": 1, "conv.weight": 0.25}'],
    ['a list', '[{"name": "conv.weight", "density": 0.25}, {"name": "fc.weight", "density": 1}]'],
    [
      'what rp sparsity --json prints',
      '{"arch": "x", "layers": [{"name": "conv.weight", "density": 0.25, "nnz": 3}, {"name": "fc.weight", "density": 1}]}',
    ],
    ['CSV', 'name,density\nconv.weight,0.25\nfc.weight,1\n'],
    [
      "a run's sparsity.csv",
      'layer,shape,params,nnz,density,macs,kernel\r\nfc.weight,10x16,160,160,1,160,dense\r\nconv.weight,"16,3,3,3",432,108,0.25,5,"a ""b"""\r\n',
    ],
  ])('reads %s', (_, text) => {
    expect(read(text)).toEqual([0.25, 1]);
  });
  test.each([
    [
      'an unknown layer',
      '{"conv1.weight": 1}',
      /no prunable layer "conv1\.weight"\. Did you mean "conv\.weight"\?/,
    ],
    ['a missing layer', '{"fc.weight": 1}', /no density for conv\.weight/],
    [
      'a density above 1',
      '{"fc.weight": 1, "conv.weight": 25}',
      /"conv\.weight": expected .* \[0, 1\], got "conv\.weight" and 25/,
    ],
    ['a layer twice', 'name,density\nfc.weight,1\nfc.weight,1', /line 3: fc\.weight stands there twice/],
    ['a CSV without header', 'conv.weight,0.25\nfc.weight,1', /expected a CSV header/],
    [
      'a CSV row cut short',
      'name,density\nconv.weight',
      /line 2: expected .* got "conv\.weight" and undefined/,
    ],
    ['broken JSON', '{"conv.weight": ', /not JSON/],
    ['JSON of another kind', '[null, 3]', /layer 0: expected/],
  ])('refuses %s', (_, text, message) => {
    expect(() => read(text)).toThrow(message);
  });
  test('a density asked for as well must be the one in the file', () => {
    const text = '{"fc.weight": 1, "conv.weight": 0.25}';
    const whole = (0.25 * 432 + 160) / 592;
    expect(read(text, Math.round(whole * 1e4) / 1e4)).toEqual([0.25, 1]);
    expect(() => read(text, 0.5)).toThrow(/the file keeps 0\.4527 .*but 0\.5 was asked for/);
  });
});

describe('policies by name', () => {
  test('unknown names are errors that suggest', () => {
    expect(() => findPolicy('srip')).toThrow(
      /--ratio: unknown policy "srip"\. Known: dense, uniform, .*file:PATH.* Did you mean "snip"\?/,
    );
    expect(() => findPolicy('file')).toThrow(/unknown policy "file"/);
    expect(findPolicy('file:a/b.json').name).toBe('file');
  });
  test('a density outside (0, 1] is an error', () => {
    for (const bad of [0, -0.1, 1.5, Number.NaN]) {
      expect(() => layerDensities({ policy: 'erk', layers: [layer('a', [2, 2])], density: bad })).toThrow(
        /expected a number in \(0, 1\]/,
      );
    }
  });
  test("a policy of one's own runs, and is checked", () => {
    const layers = [layer('a', [4, 4]), layer('b', [4, 4])];
    const own = (values: number[]): RatioPolicy => ({
      name: 'own',
      description: '',
      needs: 'shapes',
      densities: () => values,
    });
    expect(layerDensities({ policy: own([0.5, 1]), layers, density: 0.75 })).toEqual([0.5, 1]);
    expect(() => layerDensities({ policy: own([0.5, 1.2]), layers, density: 0.75 })).toThrow(
      /\[ratio own\] expected a density in \[0, 1\] for b, got 1\.2/,
    );
    expect(() => layerDensities({ policy: own([0.5]), layers, density: 0.75 })).toThrow(
      /expected 2 densities, got 1/,
    );
  });
});

/** Philox against Random123's published vectors; the keying of native/core/philox.h; distributions and stability. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { native } from '../../src/engine/native.js';
import {
  bernoulliBits,
  exactBits,
  purposes,
  randomNormals,
  randomPermutation,
  randomUniforms,
  randomWords,
} from '../../src/random.js';

const hex = (words: Iterable<number>) =>
  [...words].map((word) => word.toString(16).padStart(8, '0')).join(' ');
const sha256 = (data: ArrayBufferView) =>
  createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
const ones = (bits: Uint8Array) =>
  Array.from(bits, (byte) => byte.toString(2))
    .join('')
    .replaceAll('0', '').length;

describe('Philox4x32-10', () => {
  // Random123 1.14, tests/kat_vectors.
  test.each([
    ['all zeros', [0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['all ones', Array(4).fill(0xffffffff), Array(2).fill(0xffffffff), '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    [
      'digits of pi',
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      'd16cfe09 94fdcceb 5001e420 24126ea1',
    ],
  ])('%s', (_, counter, key, expected) => {
    expect(hex(native().random.philox(Uint32Array.from(counter), Uint32Array.from(key)))).toBe(expected);
  });

  test('is keyed as documented: seed; block, index, epoch, purpose', () => {
    const seed = 3 * 2 ** 32 + 5;
    const draw = { seed, purpose: 'augmentation', epoch: 7, index: 11 } as const;
    const block = (number: number) =>
      native().random.philox(
        Uint32Array.of(number, 11, 7, purposes.augmentation * 2 ** 24),
        Uint32Array.of(5, 3),
      );
    expect([...randomWords(8, draw)]).toEqual([...block(0), ...block(1)]);
  });

  test('TypeScript and C++ number the purposes alike', () => {
    const header = readFileSync(new URL('../../native/core/philox.h', import.meta.url), 'utf8');
    const listed = [...header.matchAll(/^ {2}k(\w+) = (\d+),/gm)].map(([, name, value]) => [
      name![0]!.toLowerCase() + name!.slice(1),
      Number(value),
    ]);
    expect(Object.fromEntries(listed)).toEqual(purposes);
  });

  test.each([
    ['seed', { seed: -1 }],
    ['seed', { seed: 0.5 }],
    ['seed', { seed: 2 ** 53 }],
    ['epoch', { seed: 1, epoch: 2 ** 32 }],
    ['index', { seed: 1, index: -1 }],
  ])('refuses a %s it cannot hold: %o', (what, draw) => {
    expect(() => randomWords(1, { purpose: 'mask', ...draw })).toThrow(
      `expected ${what} to be a whole number`,
    );
  });
});

describe('normals', () => {
  test('the quantile function equals published values', () => {
    // Wichura 1988, section 3 (p = 0.25, 0.001, 1e-20), and scipy.stats.norm.ppf.
    for (const [p, z] of [
      [0.25, -0.6744897501960817],
      [0.001, -3.090232306167813],
      [1e-20, -9.262340089798409],
      [0.5, 0],
      [0.975, 1.959963984540054],
      [1e-10, -6.361340902404056],
      [1 - 2 ** -52, 8.1258906647019],
    ] as const) {
      expect(Math.abs(native().random.normalQuantile(p) - z)).toBeLessThanOrEqual(
        1e-15 * Math.abs(z) + 1e-14 * Number(p > 0.99),
      );
    }
  });

  test('have the distribution (Kolmogorov-Smirnov and moments, n = 1,000,000)', () => {
    const values = randomNormals(1_000_000, 1, { seed: 1, purpose: 'initialWeights' }).sort();
    const n = values.length;
    // Φ on a grid by the quantile function itself would prove nothing: Abramowitz & Stegun 26.2.17, |error| < 7.5e-8.
    const phi = (z: number): number => {
      if (z < 0) return 1 - phi(-z);
      const t = 1 / (1 + 0.2316419 * z);
      const series =
        t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
      return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
    };
    let distance = 0;
    for (let i = 0; i < n; i += 100) distance = Math.max(distance, Math.abs(phi(values[i]!) - (i + 0.5) / n));
    // P(D > 1.95 / √n) < 0.001.
    expect(distance).toBeLessThan(1.95 / Math.sqrt(n));
    const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / n;
    expect(Math.abs(moment(1))).toBeLessThan(4 / Math.sqrt(n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
  });
});

describe('stability', () => {
  const draw = { seed: 17, purpose: 'initialWeights', index: 3 } as const;
  // Long arrays are split over threads, short ones are not: an element depends on neither.
  const long = 3_000_001;
  test.each([
    ['normals', (n: number) => randomNormals(n, 0.5, draw)],
    ['uniforms', (n: number) => randomUniforms(n, -1, 2, draw)],
  ])('%s: an element is the same in an array of any length', (_, fill) => {
    const values = fill(long);
    for (const n of [1, 2, 7, 100_001]) expect(fill(n)).toEqual(values.slice(0, n));
  });
  test('bernoulli masks too', () => {
    const { bits, ones: count } = bernoulliBits(long, 0.3, draw);
    expect(ones(bits)).toBe(count);
    expect(bernoulliBits(80_000, 0.3, draw).bits).toEqual(bits.slice(0, 10_000));
  });

  // Pinned: a change of any of these changes every seeded run, on this machine or between machines.
  test('every kind of draw keeps its bits', () => {
    expect({
      normals: sha256(randomNormals(100_003, 0.1, draw)).slice(0, 16),
      uniforms: sha256(randomUniforms(100_003, -0.1, 0.1, draw)).slice(0, 16),
      bernoulli: sha256(bernoulliBits(100_003, 0.123, draw).bits).slice(0, 16),
      exact: sha256(exactBits(100_003, 12_345, draw)).slice(0, 16),
      permutation: sha256(randomPermutation(50_000, draw)).slice(0, 16),
    }).toMatchInlineSnapshot(`
      {
        "bernoulli": "23514f05dd11751d",
        "exact": "f229318f20cf4245",
        "normals": "949c18f07dfbf503",
        "permutation": "04e0b96254d572e1",
        "uniforms": "e250727142aa9205",
      }
    `);
  });
});

describe('uniforms', () => {
  test('fill [low, high) evenly', () => {
    const n = 1_000_000;
    const counts = new Float64Array(100);
    for (const value of randomUniforms(n, 0, 1, { seed: 2, purpose: 'labels' }))
      counts[Math.floor(value * 100)]!++;
    // χ² with 99 degrees of freedom exceeds 149 with probability 0.001.
    expect(counts.reduce((sum, count) => sum + (count - n / 100) ** 2 / (n / 100), 0)).toBeLessThan(149);
  });
});

describe('permutations and subsets', () => {
  test('a permutation holds every number once', () => {
    expect([...randomPermutation(10_007, { seed: 1, purpose: 'shuffle' }).sort()]).toEqual(
      Array.from({ length: 10_007 }, (_, i) => i),
    );
    expect(randomPermutation(0, { seed: 1, purpose: 'shuffle' })).toHaveLength(0);
  });
  test('all 24 orders of 4 are equally likely', () => {
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 24_000; epoch++) {
      const order = randomPermutation(4, { seed: 5, purpose: 'shuffle', epoch }).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    // 23 degrees of freedom, 0.001: 49.7.
    expect([...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(
      49.7,
    );
  });
  test('all 10 pairs out of 5 are equally likely', () => {
    const counts = new Map<number, number>();
    for (let index = 0; index < 10_000; index++) {
      const [byte] = exactBits(5, 2, { seed: 5, purpose: 'mask', index });
      counts.set(byte!, (counts.get(byte!) ?? 0) + 1);
    }
    expect(counts.size).toBe(10);
    // 9 degrees of freedom, 0.001: 27.9.
    expect([...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(
      27.9,
    );
  });
  test('exact keeps none, some or all', () => {
    for (const keep of [0, 1, 12, 13])
      expect(ones(exactBits(13, keep, { seed: 1, purpose: 'mask' }))).toBe(keep);
    expect(() => exactBits(13, 14, { seed: 1, purpose: 'mask' })).toThrow(
      'expected 0 <= keep <= numel < 2^32, got keep 14 of 13',
    );
  });
  test('bernoulli keeps everything at 1 and nothing at 0; spare bits are 0', () => {
    expect([...bernoulliBits(11, 1, { seed: 1, purpose: 'mask' }).bits]).toEqual([255, 7]);
    expect([...bernoulliBits(11, 0, { seed: 1, purpose: 'mask' }).bits]).toEqual([0, 0]);
  });
});

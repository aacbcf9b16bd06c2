/** Inputs and checks of the convolution conformance suite (conv.test.ts). */
import { expect } from 'vitest';
import { type ConvResult, type ConvShape, convReference, runConv } from '../../../src/engine/kernels.js';

export interface ConvCase {
  readonly shape: ConvShape;
  readonly n: number;
  /** Probability that a weight is kept; null: no mask. */
  readonly density: number | null;
  /** Output and input channels that keep nothing. */
  readonly emptyOutputs?: readonly number[];
  readonly emptyInputs?: readonly number[];
}

/** "16→32 3x3 s2 p1 on 32x32, n 20" */
export function parseShape(text: string): { shape: ConvShape; n: number } {
  const match = /^(\d+)→(\d+) (\d+)x(\d+) s(\d+) p(\d+) on (\d+)x(\d+), n (\d+)$/.exec(text);
  if (!match) throw new Error(`not a shape: ${text}`);
  const [inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, height, width, n] = match
    .slice(1)
    .map(Number) as [number, number, number, number, number, number, number, number, number];
  return { shape: { inChannels, outChannels, height, width, kernelHeight, kernelWidth, stride, padding }, n };
}

/** xorshift32; the values only have to vary. */
function generator(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

export interface ConvInputs {
  readonly mask: Uint8Array | null;
  readonly kept: readonly number[];
  readonly x: Float32Array;
  readonly w: Float32Array;
  readonly dense: Float32Array;
  readonly dy: Float32Array;
}

export function outputSize(shape: ConvShape): [number, number] {
  const size = (extent: number, kernel: number) =>
    Math.floor((extent + 2 * shape.padding - kernel) / shape.stride) + 1;
  return [size(shape.height, shape.kernelHeight), size(shape.width, shape.kernelWidth)];
}

/** integers: values in -3 .. 3, so that every sum is exact in float32. */
export function makeInputs(test: ConvCase, integers: boolean, seed = 1): ConvInputs {
  const { shape, n } = test;
  const random = generator(seed);
  const value = integers ? () => Math.floor(random() * 7) - 3 : () => random() * 2 - 1;
  const taps = shape.kernelHeight * shape.kernelWidth;
  const numel = shape.outChannels * shape.inChannels * taps;
  const mask = test.density === null ? null : new Uint8Array(Math.ceil(numel / 8));
  const kept: number[] = [];
  for (let i = 0; i < numel; i++) {
    const input = Math.floor(i / taps) % shape.inChannels;
    const output = Math.floor(i / taps / shape.inChannels);
    if (mask) {
      const keep = random() < (test.density ?? 1);
      if (!keep || test.emptyOutputs?.includes(output) || test.emptyInputs?.includes(input)) continue;
      mask[i >> 3]! |= 1 << (i & 7);
    }
    kept.push(i);
  }
  const [outHeight, outWidth] = outputSize(shape);
  const fill = (count: number) => Float32Array.from({ length: count }, value);
  const w = fill(kept.length);
  const dense = new Float32Array(numel);
  kept.forEach((at, j) => {
    dense[at] = w[j]!;
  });
  return {
    mask,
    kept,
    w,
    dense,
    x: fill(n * shape.inChannels * shape.height * shape.width),
    dy: fill(n * shape.outChannels * outHeight * outWidth),
  };
}

/**
 * Compares with the double reference. Integers must match exactly. Otherwise the bound of a float32 sum in any
 * order: |error| <= terms · ε · Σ |term|, with ε = 2^-23 for one rounded product and one rounded addition a term.
 */
export function expectMatches(
  test: ConvCase,
  inputs: ConvInputs,
  got: ConvResult,
  integers: boolean,
  added = 0,
) {
  const { shape, n } = test;
  const reference = convReference({ shape, n, x: inputs.x, w: inputs.dense, dy: inputs.dy });
  const [outHeight, outWidth] = outputSize(shape);
  const taps = shape.kernelHeight * shape.kernelWidth;
  const compare = (
    name: string,
    actual: Float32Array,
    expected: Float64Array,
    size: Float64Array,
    terms: number,
    index: (i: number) => number,
  ) => {
    let worst = 0;
    let where = -1;
    for (let i = 0; i < actual.length; i++) {
      const at = index(i);
      const bound = integers ? 0 : (terms + 1) * 2 ** -23 * (size[at]! + Math.abs(added)) + 2 ** -140;
      const error = Math.abs(actual[i]! - (expected[at]! + added));
      const excess = Number.isNaN(error) ? Infinity : integers ? error : error / bound;
      if (excess > worst) {
        worst = excess;
        where = i;
      }
    }
    const limit = integers ? 0 : 1;
    expect(worst, `${name}[${where}] = ${actual[where]}, choice ${got.choice}`).toBeLessThanOrEqual(limit);
  };
  compare('y', got.y, reference.y, reference.ySize, shape.inChannels * taps, (i) => i);
  compare('dx', got.dx, reference.dx, reference.dxSize, shape.outChannels * taps, (i) => i);
  compare('dw', got.dw, reference.dw, reference.dwSize, n * outHeight * outWidth, (i) => inputs.kept[i]!);
}

/** Equal bit for bit, NaN and signs of zero included. */
export function expectSameBits(a: ConvResult, b: ConvResult) {
  for (const key of ['y', 'dx', 'dw'] as const) {
    const same = Buffer.from(a[key].buffer).equals(Buffer.from(b[key].buffer));
    expect(same, `${key}, ${a.choice}`).toBe(true);
  }
}

export function run(
  test: ConvCase,
  inputs: ConvInputs,
  options: { isa: 'avx512' | 'avx2' | 'portable'; threads?: number } & Partial<Parameters<typeof runConv>[0]>,
): ConvResult {
  const { x, w, dy, mask } = inputs;
  return runConv({ shape: test.shape, n: test.n, x, w, dy, mask, threads: 1, ...options });
}

/**
 * The golden files (SPEC 9) and the integer-hash generator their weights, images and masks come from: bit-exact in
 * every language, so that no file of values is needed.
 */
import { readFileSync } from 'node:fs';
import type { Graph } from '../../src/graph/types.js';
import type { Mask } from '../../src/masks/mask.js';

// biome-ignore lint/suspicious/noExplicitAny: golden files are read as they are; the tests state what they hold.
export function golden(name: string): any {
  return JSON.parse(readFileSync(new URL(`../fixtures/golden/${name}.json`, import.meta.url), 'utf8'));
}

function hash(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** U(stream, i) of the golden files: uniform in (0, 1). Loops, not callbacks: WRN-50-2 draws 69 million. */
export function hashUniform(stream: number, count: number): Float64Array {
  const start = hash(stream);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = (hash(start + i) + 0.5) / 4294967296;
  return values;
}

/** R(stream, i) of the golden files, times `scale`: uniform, mean 0, variance scale². */
export function hashValues(stream: number, count: number, scale = 1): Float64Array {
  const values = hashUniform(stream, count);
  for (let i = 0; i < count; i++) values[i] = scale * (Math.sqrt(3) * (2 * values[i]! - 1));
  return values;
}

/** y_n = (3n + offset) mod classes. */
export function goldenLabels(n: number, offset: number, classes: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => (3 * i + offset) % classes);
}

/** Dense values of every parameter: prunable layer l has std_l · R(1 + l, i); gamma 1; beta and biases 0. */
export function goldenWeights(graph: Graph, scale: 'kaiming' | 'xavier' = 'kaiming'): Float64Array[] {
  let layer = 0;
  return graph.params.map(({ kind, shape, numel, prunable }) => {
    if (!prunable) return new Float64Array(numel).fill(kind === 'gamma' ? 1 : 0);
    const [out = 1, inputs = 1, height = 1, width = 1] = shape;
    const taps = height * width;
    const std = Math.sqrt(2 / (inputs * taps + (scale === 'xavier' ? out * taps : 0)));
    layer += 1;
    return hashValues(layer, numel, std);
  });
}

/** mask_l[i] = U(2000 + l, i) < density_l. */
export function goldenMasks(graph: Graph, densities: readonly number[]): (Mask | null)[] {
  let layer = -1;
  return graph.params.map(({ shape, numel, prunable }) => {
    if (!prunable) return null;
    layer += 1;
    const uniforms = hashUniform(2000 + layer, numel);
    return makeMask(shape, (i) => uniforms[i]! < densities[layer]!);
  });
}

export function makeMask(shape: readonly number[], keeps: (i: number) => boolean): Mask {
  const numel = shape.reduce((product, size) => product * size, 1);
  const bits = new Uint8Array(Math.ceil(numel / 8));
  let nnz = 0;
  for (let i = 0; i < numel; i++) {
    if (!keeps(i)) continue;
    bits[i >> 3]! |= 1 << (i & 7);
    nnz += 1;
  }
  return { shape, numel, nnz, bits };
}

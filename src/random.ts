/**
 * Seeded draws: Philox4x32-10, stateless, computed natively (native/core/random.h says how each is keyed). A value is
 * a function of (seed, purpose, epoch, index, element) alone, the same on every machine and for any number of threads.
 */
import { native } from './engine/native.js';
import { UsageError } from './errors.js';

/** What random numbers are for: the list of native/core/philox.h. Part of every seeded result; never renumber. */
export const purposes = {
  initialWeights: 1,
  mask: 2,
  shuffle: 3,
  augmentation: 4,
  syntheticImages: 5,
  saliencyWeights: 6,
  saliencyBatch: 7,
  labels: 8,
} as const;

/** Bumped when a draw changes: checkpoints store it beside a mask's recipe. */
export const GENERATOR_VERSION = 'philox4x32-10/1';

/** One stream of draws. */
export interface DrawKey {
  /** A whole number in [0, 2^53). */
  readonly seed: number;
  readonly purpose: keyof typeof purposes;
  /** Default 0. */
  readonly epoch?: number;
  /** The parameter or sample the draws belong to; default 0. */
  readonly index?: number;
}

/** Arguments of the native draws, which trust them. */
function key({ seed, purpose, epoch = 0, index = 0 }: DrawKey): [number, number, number, number] {
  for (const [what, value, end, shown] of [
    ['seed', seed, 2 ** 53, '2^53'],
    ['epoch', epoch, 2 ** 32, '2^32'],
    ['index', index, 2 ** 32, '2^32'],
  ] as const) {
    if (!Number.isInteger(value) || value < 0 || value >= end) {
      throw new UsageError(
        `[random ${purpose}] expected ${what} to be a whole number in [0, ${shown}), got ${value}.`,
      );
    }
  }
  return [seed, purposes[purpose], epoch, index];
}

/** Raw 32-bit words. */
export function randomWords(count: number, draw: DrawKey): Uint32Array {
  const out = new Uint32Array(count);
  native().random.words(out, ...key(draw));
  return out;
}

/** Normals of the given deviation and mean 0, fp32. */
export function randomNormals(count: number, deviation: number, draw: DrawKey): Float32Array {
  const out = new Float32Array(count);
  native().random.fillNormal(out, 0, deviation, ...key(draw));
  return out;
}

/** Uniforms in [low, high), fp32. */
export function randomUniforms(count: number, low: number, high: number, draw: DrawKey): Float32Array {
  const out = new Float32Array(count);
  native().random.fillUniform(out, low, high, ...key(draw));
  return out;
}

/** A permutation of 0 … n - 1. */
export function randomPermutation(n: number, draw: DrawKey): Uint32Array {
  const out = new Uint32Array(n);
  native().random.permutation(out, ...key(draw));
  return out;
}

/** numel bits, each 1 with probability `density` alone (U < density, SPEC 2.0). */
export function bernoulliBits(
  numel: number,
  density: number,
  draw: DrawKey,
): { bits: Uint8Array; ones: number } {
  const bits = new Uint8Array(Math.ceil(numel / 8));
  const ones = native().random.bernoulliMask(bits, numel, density, ...key(draw));
  return { bits, ones };
}

/** numel bits of which exactly `keep` are 1, every choice equally likely. */
export function exactBits(numel: number, keep: number, draw: DrawKey): Uint8Array {
  const bits = new Uint8Array(Math.ceil(numel / 8));
  native().random.exactMask(bits, numel, keep, ...key(draw));
  return bits;
}

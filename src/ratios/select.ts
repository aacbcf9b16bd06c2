/**
 * The k-th largest of all scores of a network, in O(N) and without copying them: a radix selection. The bits of an
 * IEEE number, as an unsigned integer with the sign turned around, sort like the number; each pass counts the next 16
 * bits of those that agree with the digits found so far. Two passes for floats, four for doubles; exact.
 */
import { RunError } from '../errors.js';
import type { Scores } from './policy.js';

const DIGITS = 0x10000;

/** The array's bits as 32-bit words; doubles have the low word first (every platform of Node is little-endian). */
const wordsOf = (scores: Scores) =>
  new Uint32Array(scores.buffer, scores.byteOffset, scores.byteLength / Uint32Array.BYTES_PER_ELEMENT);

/** The digit, from above, in which the k-th largest lies, and its rank among those that share it. */
function findDigit(counts: Float64Array, k: number): { digit: number; rank: number } {
  let rank = k;
  for (let digit = DIGITS - 1; ; digit--) {
    if (rank <= counts[digit]!) return { digit, rank };
    rank -= counts[digit]!;
  }
}

/** The sort key's high word: all bits turned for negatives, the sign alone for others. */
const highKey = (word: number) => (word ^ ((word >> 31) | 0x80000000)) >>> 0;

function requireFinite(scores: readonly Scores[]): void {
  for (const [layer, values] of scores.entries()) {
    const index = values.findIndex((value) => !Number.isFinite(value));
    if (index >= 0) {
      throw new RunError(
        `[saliency] expected finite scores, got ${values[index]} for weight ${index} of layer ${layer}. The network's gradients overflow; check its initial weights and images.`,
      );
    }
  }
}

/**
 * @param scores one array per layer, all of one type, no NaN
 * @param k 1 is the largest; at most the number of scores
 */
export function kthLargest(scores: readonly Scores[], k: number): number {
  const doubles = scores[0] instanceof Float64Array;
  const stride = doubles ? 2 : 1;
  const layers = scores.map(wordsOf);
  const counts = new Float64Array(DIGITS);

  // Passes 1 and 2: the high word, which is all of a float.
  for (const words of layers) {
    for (let i = stride - 1; i < words.length; i += stride) counts[highKey(words[i]!) >>> 16]!++;
  }
  // Exponents of all ones, and so NaN and infinities, lie in the outermost digits.
  const exponentEnd = doubles ? 0x10 : 0x80;
  for (let digit = 0; digit < exponentEnd; digit++) {
    if (counts[digit]! + counts[DIGITS - 1 - digit]! > 0) requireFinite(scores);
  }
  const top = findDigit(counts, k);
  counts.fill(0);
  for (const words of layers) {
    for (let i = stride - 1; i < words.length; i += stride) {
      const key = highKey(words[i]!);
      if (key >>> 16 === top.digit) counts[key & 0xffff]!++;
    }
  }
  const second = findDigit(counts, top.rank);
  const key = ((top.digit << 16) | second.digit) >>> 0;
  // The way back: keys with the top bit were not negative.
  const negative = key < 0x80000000;
  const high = (negative ? ~key : key ^ 0x80000000) >>> 0;
  if (!doubles) return new Float32Array(Uint32Array.of(high).buffer)[0]!;

  // Passes 3 and 4: the low word of those with this high word, hence of this sign.
  const flip = negative ? 0xffffffff : 0;
  counts.fill(0);
  for (const words of layers) {
    for (let i = 1; i < words.length; i += 2) {
      if (words[i] === high) counts[((words[i - 1]! ^ flip) >>> 0) >>> 16]!++;
    }
  }
  const third = findDigit(counts, second.rank);
  counts.fill(0);
  for (const words of layers) {
    for (let i = 1; i < words.length; i += 2) {
      const low = (words[i - 1]! ^ flip) >>> 0;
      if (words[i] === high && low >>> 16 === third.digit) counts[low & 0xffff]!++;
    }
  }
  const last = findDigit(counts, third.rank);
  const low = (((third.digit << 16) | last.digit) ^ flip) >>> 0;
  return new Float64Array(Uint32Array.of(low, high).buffer)[0]!;
}

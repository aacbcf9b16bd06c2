/** A static mask: which weights of one parameter are kept, fixed for the run (SPEC 2.0). */
export interface Mask {
  readonly shape: readonly number[];
  readonly numel: number;
  /** Kept elements. */
  readonly nnz: number;
  /** Bit `i & 7` of byte `i >> 3` is element i in row-major (OIHW) order; 1 = kept. Spare bits of the last byte are 0. */
  readonly bits: Uint8Array;
}

/** Whether element i (row-major) is kept. */
export function isKept(mask: Mask, i: number): boolean {
  return ((mask.bits[i >> 3]! >> (i & 7)) & 1) === 1;
}

const onesOfByte = Uint8Array.from({ length: 256 }, (_, byte) => {
  let ones = 0;
  for (let rest = byte; rest > 0; rest &= rest - 1) ones++;
  return ones;
});

/** Number of ones in a bitmask. */
export function countBits(bits: Uint8Array): number {
  let ones = 0;
  for (let i = 0; i < bits.length; i++) ones += onesOfByte[bits[i]!]!;
  return ones;
}

/** Calls `visit(element, position)` for each kept element in ascending order, position counting from 0. */
function forEachKept(mask: Mask, visit: (element: number, position: number) => void): void {
  let position = 0;
  for (let byte = 0; byte < mask.bits.length; byte++) {
    for (let rest = mask.bits[byte]!; rest > 0; rest &= rest - 1) {
      visit(byte * 8 + (31 - Math.clz32(rest & -rest)), position++);
    }
  }
}

function requireLength(what: string, got: number, expected: number): void {
  if (got !== expected) throw new RangeError(`${what}: expected ${expected} values, got ${got}.`);
}

/** The kept elements of a dense row-major array, in ascending order; a copy. Null mask: all of them. */
export function packValues<V extends Float32Array | Float64Array>(values: V, mask: Mask | null): V {
  if (mask === null) return values.slice() as V;
  requireLength('packValues', values.length, mask.numel);
  const packed = new (values.constructor as new (length: number) => V)(mask.nnz);
  forEachKept(mask, (element, position) => {
    packed[position] = values[element]!;
  });
  return packed;
}

/** The dense row-major array of packed values, 0 where pruned. */
export function unpackValues<V extends Float32Array | Float64Array>(
  packed: V,
  mask: Mask | null,
  numel: number,
): V {
  requireLength('unpackValues', packed.length, mask?.nnz ?? numel);
  if (mask === null) return packed.slice() as V;
  const values = new (packed.constructor as new (length: number) => V)(numel);
  forEachKept(mask, (element, position) => {
    values[element] = packed[position]!;
  });
  return values;
}

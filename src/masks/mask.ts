/** A static mask: which weights of one parameter are kept, fixed for the run (SPEC 2.0). */
export interface Mask {
  readonly shape: readonly number[];
  readonly numel: number;
  /** Kept elements. */
  readonly nnz: number;
  /** Bit `i & 7` of byte `i >> 3` is element i in row-major (OIHW) order; 1 = kept. */
  readonly bits: Uint8Array;
}

/**
 * The native kernel lists, one function an op: what conformance tests and benches call kernels through
 * (native/bindings/kernels.cpp). Values are logical NCHW / OIHW arrays; training never passes here.
 */
import { native } from './native.js';

export interface KernelInfo {
  /** `<op>_<isa>`. */
  readonly name: string;
  readonly op: string;
  readonly isa: 'avx512' | 'avx2' | 'portable';
  /** False when this processor or build lacks the instruction set. */
  readonly available: boolean;
}

export interface ConvShape {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly height: number;
  readonly width: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly stride: number;
  readonly padding: number;
}

export interface ConvCall {
  readonly shape: ConvShape;
  readonly n: number;
  /** Kept weights, bit i & 7 of byte i >> 3 is element i (OIHW); null: the dense kernels. */
  readonly mask: Uint8Array | null;
  readonly isa: KernelInfo['isa'];
  readonly threads: number;
  /** Replays this choice of tiles; otherwise the layer chooses, by measuring when `measure` is set. */
  readonly choice?: string;
  readonly measure?: boolean;
  /**
   * Forward's x is made in turns with the tiles, in memory that holds one image block of each thread; and dgrad
   * and wgrad run together where the layer can, dy made in turns, x too with 'both'.
   */
  readonly inTurns?: 'both' | 'dy';
  /** Border columns and rows beyond those needed. */
  readonly extraBorder?: number;
  /** (n, C, H, W) */
  readonly x: Float32Array;
  /** Packed: kept weights in ascending order. */
  readonly w: Float32Array;
  /** (n, K, P, Q) */
  readonly dy: Float32Array;
  /** Adds to these instead of overwriting. */
  readonly add?: boolean;
  readonly y?: Float32Array;
  readonly dx?: Float32Array;
  readonly dw?: Float32Array;
}

export interface ConvResult {
  readonly y: Float32Array;
  readonly dx: Float32Array;
  /** Packed. */
  readonly dw: Float32Array;
  readonly choice: string;
  readonly kernel: string;
  /** Whether dgrad and wgrad ran together. */
  readonly joint: boolean;
  readonly indexBytes: number;
  readonly weightsBytes: number;
  readonly scratchBytes: number;
  /** What planning would have reckoned with; at least the sum of the three above. */
  readonly bytesBound: number;
}

/** Results in double, and for each the sum of its terms' magnitudes. dw is computed at every weight. */
export interface ConvReference {
  readonly y: Float64Array;
  readonly dx: Float64Array;
  readonly dw: Float64Array;
  readonly ySize: Float64Array;
  readonly dxSize: Float64Array;
  readonly dwSize: Float64Array;
}

export interface NativeKernels {
  list(): KernelInfo[];
  runConv(call: ConvCall): ConvResult;
  convReference(call: {
    shape: ConvShape;
    n: number;
    x: Float32Array;
    /** Dense, zeros where pruned. */
    w: Float32Array;
    dy: Float32Array;
  }): ConvReference;
}

/** Every kernel that is listed, best first within its op. */
export function kernels(): KernelInfo[] {
  return native().kernels.list();
}

/** One layer's three passes through one kernel. @throws {Error} when a kernel writes where it must not. */
export function runConv(call: ConvCall): ConvResult {
  return native().kernels.runConv(call);
}

/** The same three passes as plain loops in double. */
export const convReference: NativeKernels['convReference'] = (call) => native().kernels.convReference(call);

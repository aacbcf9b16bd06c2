/** Types of decoded messages, and what encoding and decoding share: bytes ⇄ numbers, the CRC of a tensor. */
import { endianness } from 'node:os';
import type { Values } from '../engine/session.js';
import { random_pruning as pb } from './checkpoint.pb.js';
import { crc32 } from './crc32.js';

/** Protobuf's own limit for a message, and that of most of its readers. */
export const maxMessageBytes = 2 ** 31 - 1;

/**
 * A message as protobufjs decodes it: absent scalars and lists read as their defaults, absent messages as null. Its
 * generated types know only that any field may be absent.
 */
export type Decoded<M> = M extends Uint8Array | string | number | boolean
  ? M
  : M extends (infer E)[]
    ? Decoded<E>[]
    : { readonly [K in keyof M]-?: DecodedField<NonNullable<M[K]>> };
type DecodedField<F> = F extends Uint8Array | string | number | boolean | unknown[]
  ? Decoded<F>
  : Decoded<F> | null;

/** Fields that proto3 calls optional read as null where absent. */
type Nullable<M, K extends keyof M> = Omit<M, K> & { readonly [P in K]: M[P] | null };

export type HeaderMessage = Decoded<pb.Header.$Properties>;
export type GraphMessage = Decoded<pb.Graph.$Properties>;
export type NodeMessage = Decoded<pb.Node.$Properties>;
export type ParamMessage = Decoded<pb.Param.$Properties>;
export type PositionMessage = Nullable<Decoded<pb.Position.$Properties>, 'trainLoss' | 'bestTestAccuracy'>;
export type TensorMessage = Nullable<Decoded<pb.Tensor.$Properties>, 'mask' | 'momentum'>;
export interface RecordMessage {
  readonly content: string | undefined;
  readonly header: HeaderMessage | null;
  readonly tensor: TensorMessage | null;
  readonly footer: Decoded<pb.Footer.$Properties> | null;
}

export function tensorCrc(tensor: {
  readonly mask?: Uint8Array | null;
  readonly values?: Uint8Array | null;
  readonly momentum?: Uint8Array | null;
}): number {
  const { mask, values, momentum } = tensor;
  return [mask, values, momentum].reduce((crc: number, bytes) => (bytes ? crc32(bytes, crc) : crc), 0);
}

export const footerRecord = (sha256: Uint8Array) =>
  pb.Record.encodeDelimited({ footer: { sha256 } }).finish();

export const elementBytes = (type: pb.Tensor.ElementType) => (type === pb.Tensor.ElementType.FLOAT64 ? 8 : 4);

/** Little-endian bytes of `values`: a view where the machine is little-endian. */
export function toBytes(values: Values): Uint8Array {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return endianness() === 'LE' ? bytes : swapped(bytes, values.BYTES_PER_ELEMENT);
}

/** A copy of `bytes`, which hold a whole number of little-endian elements, as numbers. */
export function fromBytes(bytes: Uint8Array, type: pb.Tensor.ElementType): Values {
  const width = elementBytes(type);
  const copy = endianness() === 'LE' ? new Uint8Array(bytes) : new Uint8Array(swapped(bytes, width));
  return width === 8 ? new Float64Array(copy.buffer) : new Float32Array(copy.buffer);
}

function swapped(bytes: Uint8Array, width: number): Buffer {
  const copy = Buffer.from(bytes);
  return width === 8 ? copy.swap64() : copy.swap32();
}

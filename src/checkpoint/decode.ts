/**
 * Bytes → checkpoint. Every length is bounded by what is left of the file before anything is allocated, and every byte
 * is covered: the tensors by a CRC each, all that precedes the footer by its SHA-256, the footer by being exactly the
 * one record that fits. Any damage throws CorruptError with its offset.
 */
import { createHash } from 'node:crypto';
import type { Values } from '../engine/session.js';
import { CorruptError, EnvironmentError } from '../errors.js';
import type { Graph } from '../graph/types.js';
import { countBits, type Mask, packValues } from '../masks/mask.js';
import { type Checkpoint, checkpointSchema, type ParamState } from './checkpoint.js';
import { random_pruning as pb } from './checkpoint.pb.js';
import { graphFromMessage } from './graph-message.js';
import type { HeaderMessage, PositionMessage, RecordMessage, TensorMessage } from './messages.js';
import { elementBytes, footerRecord, fromBytes, maxMessageBytes, tensorCrc } from './messages.js';

/** Where the bytes of a file come from. */
export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`; both lie within `size`. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

export function bytesSource(bytes: Uint8Array): ByteSource {
  return { size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}

/** What the header says of a checkpoint. */
export type CheckpointHeader = Omit<Checkpoint, 'masks' | 'params' | 'buffers'>;
type Damaged = (expected: string, got: string) => CorruptError;

/** Reads and checks the whole file. */
export async function decodeCheckpoint(source: ByteSource, file: string): Promise<Checkpoint> {
  const masks: (Mask | null)[] = [];
  const params: ParamState[] = [];
  const buffers: Values[] = [];
  const header = await scanCheckpoint(source, file, (tensor) => {
    const values = fromBytes(tensor.values, tensor.type);
    if (tensor.kind === pb.Tensor.Kind.BUFFER) {
      buffers.push(values);
      return;
    }
    const { shape, nnz } = tensor;
    const numel = shape.reduce((a, b) => a * b, 1);
    const mask = tensor.mask ? { shape, numel, nnz, bits: new Uint8Array(tensor.mask) } : null;
    const momentum = fromBytes(tensor.momentum ?? new Uint8Array(), tensor.type);
    masks.push(mask);
    params.push({ values: pack(values, mask), momentum: pack(momentum, mask) });
  });
  return { ...header, masks, params, buffers };
}

/** Walks the file and checks all of it, holding one record at a time; `visit` sees each tensor, checked. */
export async function scanCheckpoint(
  source: ByteSource,
  file: string,
  visit: (tensor: TensorMessage) => void = () => {},
): Promise<CheckpointHeader> {
  const hash = createHash('sha256');
  let header: CheckpointHeader | null = null;
  let tensors = 0;
  let offset = 0;
  const damaged: Damaged = (expected, got) => new CorruptError(file, offset, expected, got);
  for (;;) {
    const { bytes, message } = await readRecord(source, offset, damaged);
    if (message.footer) {
      if (header === null) throw damaged('a checkpoint header', 'a footer');
      const expected = header.graph.params.length + header.graph.buffers.length;
      if (tensors !== expected) throw damaged(`${expected} tensors before the footer`, `${tensors}`);
      const sha256 = hash.digest();
      if (Buffer.compare(bytes, footerRecord(sha256)) !== 0) {
        throw damaged(
          `SHA-256 ${sha256.toString('hex')}`,
          Buffer.from(message.footer.sha256).toString('hex'),
        );
      }
      const rest = source.size - offset - bytes.length;
      if (rest !== 0) throw damaged('the file to end behind its footer', `${rest} more bytes`);
      return header;
    }
    hash.update(bytes);
    if (header === null) {
      if (!message.header) throw damaged('a checkpoint header', message.content ?? 'an unknown record');
      header = readHeader(message.header, file, damaged);
    } else {
      if (!message.tensor) throw damaged('a tensor or the footer', message.content ?? 'an unknown record');
      checkTensor(message.tensor, tensors++, header.graph, damaged);
      visit(message.tensor);
    }
    offset += bytes.length;
  }
}

/** The record at `offset`: its bytes with their length in front, and what they say. */
async function readRecord(source: ByteSource, offset: number, damaged: Damaged) {
  const left = source.size - offset;
  const prefix = await source.read(offset, Math.min(5, left)); // five bytes of varint hold 2^31
  let length = 0;
  let used = 0;
  do {
    if (used === prefix.length)
      throw damaged('the length of a record', left > 4 ? 'no varint' : 'the end of the file');
    length += (prefix[used]! & 127) * 2 ** (7 * used);
  } while (prefix[used++]! & 128);
  if (length > maxMessageBytes)
    throw damaged(`a record of at most ${maxMessageBytes} bytes`, `${length} bytes`);
  if (length > left - used)
    throw damaged(`a record of ${length} bytes`, `${left - used} bytes to the end of the file`);
  const bytes = await source.read(offset, used + length);
  try {
    return { bytes, message: pb.Record.decode(bytes.subarray(used)) as unknown as RecordMessage };
  } catch (error) {
    throw damaged('a protobuf message', (error as Error).message);
  }
}

function readHeader(message: HeaderMessage, file: string, damaged: Damaged): CheckpointHeader {
  const { schema, writer, engine, plan, best, maskRecipe, optimizer, position, seeds } = message;
  if (schema > checkpointSchema) {
    throw new EnvironmentError(
      `${file}: expected checkpoint schema ${checkpointSchema} or older, got ${schema} from ${writer}. Update random-pruning.`,
    );
  }
  if (schema !== checkpointSchema) throw damaged(`checkpoint schema ${checkpointSchema}`, `${schema}`);
  if (!message.graph || !optimizer || !position || !seeds)
    throw damaged('a whole header', 'one with a part missing');
  if (engine !== 'cpu' && engine !== 'reference') throw damaged('engine cpu or reference', `"${engine}"`);
  let graph: Graph;
  let config: Record<string, unknown> | null;
  try {
    graph = graphFromMessage(message.graph);
    config = message.config === '' ? null : JSON.parse(message.config);
  } catch (error) {
    throw damaged('a sound graph and configuration', (error as Error).message.replace(/\.$/, ''));
  }
  const count = graph.params.length + graph.buffers.length;
  if (message.tensors !== count) throw damaged(`${count} tensors for this graph`, `${message.tensors}`);
  const decays = optimizer.weightDecay.length;
  if (decays !== graph.params.length) throw damaged(`${graph.params.length} weight decays`, `${decays}`);
  return {
    ...{
      writer,
      graph,
      config,
      engine,
      plan,
      best: best && pick(best, ['epoch', 'accuracy', 'loss', 'testAccuracy', 'testLoss']),
    },
    maskRecipe: maskRecipe && pick(maskRecipe, recipeFields),
    optimizer: pick(optimizer, ['momentum', 'nesterov', 'labelSmoothing', 'weightDecay']),
    position: pick(position as PositionMessage, positionFields),
    seeds: pick(seeds, ['init', 'mask', 'data']),
  };
}

const recipeFields = [
  'policy',
  'density',
  'sampler',
  'granularity',
  'seed',
  'generator',
  'densities',
  'hash',
] as const;
// biome-ignore format: a list of names
const positionFields = [
  'step', 'stepsPerEpoch', 'epochs', 'numBatchesTracked', 'epochLossSum', 'epochImages', 'epochCorrect',
  'images', 'seconds', 'trainLoss', 'bestTestAccuracy',
] as const;

/** Fields of a message in a plain object; defaults live on the message's prototype, where a spread misses them. */
function pick<M extends object, K extends keyof M>(message: M, names: readonly K[]): Pick<M, K> {
  return Object.fromEntries(names.map((name) => [name, message[name] ?? null])) as Pick<M, K>;
}

/** Checks tensor `index` against the graph, its own lengths and its CRC. */
function checkTensor(tensor: TensorMessage, index: number, graph: Graph, damaged: Damaged): void {
  const param = graph.params[index];
  const buffer = graph.buffers[index - graph.params.length];
  const wanted = param ?? (buffer && { name: buffer.name, shape: [buffer.numel], numel: buffer.numel });
  if (!wanted) throw damaged('the footer', `a further tensor ${tensor.name}`);
  const { name, numel } = wanted;
  const kind = param ? pb.Tensor.Kind.PARAMETER : pb.Tensor.Kind.BUFFER;
  if (tensor.name !== name || tensor.kind !== kind) throw damaged(`tensor ${name}`, tensor.name);
  const [shape, got] = [wanted.shape.join(', '), tensor.shape.join(', ')];
  if (shape !== got) throw damaged(`${name} of shape (${shape})`, `(${got})`);
  const crc = tensorCrc(tensor);
  if (tensor.crc32 !== crc) throw damaged(`CRC-32 ${hex(tensor.crc32)} of ${name}`, hex(crc));
  if (tensor.mask && !param) throw damaged(`no mask of the buffer ${name}`, 'one');
  if (tensor.mask) checkMask(tensor.mask, numel, tensor.nnz, name, damaged);
  else if (tensor.nnz !== numel) throw damaged(`nnz ${numel} of ${name}, which has no mask`, `${tensor.nnz}`);
  checkValues('values', tensor.values, tensor, numel, damaged);
  if (param) checkValues('momentum', tensor.momentum ?? new Uint8Array(), tensor, numel, damaged);
  else if (tensor.momentum) throw damaged(`no momentum of the buffer ${name}`, 'one');
}

function checkMask(bits: Uint8Array, numel: number, nnz: number, name: string, damaged: Damaged): void {
  const bytes = Math.ceil(numel / 8);
  if (bits.length !== bytes) throw damaged(`a mask of ${bytes} bytes for ${name}`, `${bits.length} bytes`);
  if (numel % 8 && bits[bytes - 1]! >> (numel % 8))
    throw damaged(`no mask bits behind ${name}'s last element`, 'some');
  const kept = countBits(bits);
  if (kept !== nnz) throw damaged(`nnz ${nnz} of ${name} to be its mask's count`, `${kept}`);
}

/** `bytes` hold the kept elements, or all of a masked tensor with the pruned ones zero. */
function checkValues(
  part: string,
  bytes: Uint8Array,
  tensor: TensorMessage,
  numel: number,
  damaged: Damaged,
): void {
  const { name, mask, nnz, type } = tensor;
  const width = elementBytes(type);
  if (bytes.length === nnz * width) return;
  if (!mask || bytes.length !== numel * width) {
    throw damaged(`${nnz} ${part} of ${name} in ${nnz * width} bytes`, `${bytes.length} bytes`);
  }
  const stray = fromBytes(bytes, type).findIndex(
    (value: number, i: number) => value !== 0 && !((mask[i >> 3]! >> (i & 7)) & 1),
  );
  if (stray >= 0) throw damaged(`zero ${part} where ${name} is pruned`, `a nonzero at element ${stray}`);
}

/** The kept elements, where a writer gave all of a masked tensor's. */
function pack(values: Values, mask: Mask | null): Values {
  return mask === null || values.length === mask.nnz ? values : packValues(values, mask);
}

const hex = (value: number) => value.toString(16).padStart(8, '0');

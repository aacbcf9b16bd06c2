/** Checkpoint → the records of its file (checkpoint.proto). Pure; holds one record at a time. */
import { createHash } from 'node:crypto';
import type { Values } from '../engine/session.js';
import { RunError } from '../errors.js';
import { type Checkpoint, checkpointSchema } from './checkpoint.js';
import { random_pruning as pb } from './checkpoint.pb.js';
import { graphToMessage } from './graph-message.js';
import { footerRecord, maxMessageBytes, tensorCrc, toBytes } from './messages.js';

/** Header, tensors, footer, each with its length in front. `limit`: bytes that one message may have. */
export function* encodeCheckpoint(checkpoint: Checkpoint, limit = maxMessageBytes): Generator<Uint8Array> {
  const hash = createHash('sha256');
  for (const record of contentRecords(checkpoint, limit)) {
    hash.update(record);
    yield record;
  }
  yield footerRecord(hash.digest());
}

function* contentRecords(checkpoint: Checkpoint, limit: number): Generator<Uint8Array> {
  const { graph, masks, params, buffers } = checkpoint;
  yield encodeRecord({ header: headerMessage(checkpoint) }, 'the header', limit);
  for (const [i, param] of graph.params.entries()) {
    const mask = masks[i] ?? null;
    const nnz = mask === null ? param.numel : mask.nnz;
    const { values, momentum } = params[i]!;
    expectCount(param.name, nnz, values);
    expectCount(`momentum of ${param.name}`, nnz, momentum);
    const tensor = { name: param.name, kind: pb.Tensor.Kind.PARAMETER, shape: [...param.shape], nnz };
    yield encodeRecord(
      { tensor: seal({ ...tensor, mask: mask?.bits ?? null }, values, momentum) },
      param.name,
      limit,
    );
  }
  for (const [i, { name, numel }] of graph.buffers.entries()) {
    expectCount(name, numel, buffers[i]!);
    const tensor = { name, kind: pb.Tensor.Kind.BUFFER, shape: [numel], nnz: numel };
    yield encodeRecord({ tensor: seal(tensor, buffers[i]!, null) }, name, limit);
  }
}

function expectCount(what: string, expected: number, values: Values): void {
  if (values.length === expected) return;
  throw new RunError(`[checkpoint] expected ${expected} packed values for ${what}, got ${values.length}.`);
}

/** The tensor with its bytes and their CRC. */
function seal(tensor: pb.Tensor.$Properties, values: Values, momentum: Values | null): pb.Tensor.$Properties {
  const type = values instanceof Float64Array ? pb.Tensor.ElementType.FLOAT64 : pb.Tensor.ElementType.FLOAT32;
  const sealed = { ...tensor, type, values: toBytes(values), momentum: momentum && toBytes(momentum) };
  return { ...sealed, crc32: tensorCrc(sealed) };
}

function encodeRecord(content: pb.Record.$Properties, what: string, limit: number): Uint8Array {
  const { mask, values, momentum } = content.tensor ?? {};
  const payload = (mask?.length ?? 0) + (values?.length ?? 0) + (momentum?.length ?? 0);
  // Checked before as well: protobufjs would allocate it first.
  const bytes = payload > limit ? null : pb.Record.encodeDelimited(content).finish();
  if (bytes !== null && bytes.length <= limit) return bytes;
  throw new RunError(
    `[checkpoint] ${what} takes more than the ${limit} bytes that a protobuf message may have.`,
  );
}

function headerMessage(checkpoint: Checkpoint): pb.Header.$Properties {
  const { writer, graph, config, maskRecipe, optimizer, position, engine, plan, best, seeds } = checkpoint;
  return {
    ...{
      schema: checkpointSchema,
      writer,
      graph: graphToMessage(graph),
      engine,
      plan,
      position,
      best,
      seeds,
    },
    config: config === null ? '' : JSON.stringify(config),
    maskRecipe: maskRecipe && { ...maskRecipe, densities: [...maskRecipe.densities] },
    optimizer: { ...optimizer, weightDecay: [...optimizer.weightDecay] },
    tensors: graph.params.length + graph.buffers.length,
  };
}

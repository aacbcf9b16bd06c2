/**
 * The hash of a network's weights that `rp run` and `rp eval` print: SHA-256 over, for each parameter in registration
 * order (biases and batch norm included, running statistics not), the UTF-8 bytes of its name, then its dense values in
 * row-major (OIHW) order as little-endian float32, pruned ones +0. Equal hashes: equal networks, however stored.
 */
import { createHash } from 'node:crypto';
import type { Values } from '../engine/session.js';
import type { Graph } from '../graph/types.js';
import { type Mask, unpackValues } from '../masks/mask.js';
import { toBytes } from './messages.js';

/** `masks` and the packed `values` have one entry per graph.params. */
export function weightsSha256(
  graph: Graph,
  masks: readonly (Mask | null)[],
  values: readonly Values[],
): string {
  const hash = createHash('sha256');
  graph.params.forEach((param, i) => {
    hash.update(param.name, 'utf8');
    hash.update(toBytes(Float32Array.from(unpackValues(values[i]!, masks[i] ?? null, param.numel))));
  });
  return hash.digest('hex');
}

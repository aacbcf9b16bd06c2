/** One hash for all masks of a network: equal hashes mean the same subnetwork. */
import { createHash } from 'node:crypto';
import type { Graph } from '../graph/types.js';
import type { Mask } from './mask.js';

/**
 * SHA-256 over every parameter in registration order: `name shape\n`, then the bitmask's bytes, or nothing where every
 * element is kept. Hexadecimal.
 */
export function maskHash(graph: Graph, masks: readonly (Mask | null)[]): string {
  const hash = createHash('sha256');
  for (const [index, { name, shape }] of graph.params.entries()) {
    hash.update(`${name} ${shape.join('x')}\n`);
    const mask = masks[index];
    if (mask) hash.update(mask.bits);
  }
  return hash.digest('hex');
}

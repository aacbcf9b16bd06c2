/**
 * Checks a whole graph: what the builder guarantees, for graphs made or changed by hand. Engines may then assume all
 * of it.
 */
import { UsageError } from '../errors.js';
import { at, inferShape, inputsOf, showShape } from './shapes.js';
import type { Graph, GraphNode, ParamKind } from './types.js';

/** Parameters of a node with the kind each must have, and its buffers. */
function ownedBy(node: GraphNode): { params: [index: number, kind: ParamKind][]; buffers: number[] } {
  switch (node.op) {
    case 'conv2d':
      return { params: [[node.weight, 'conv']], buffers: [] };
    case 'linear':
      return {
        params:
          node.bias === null
            ? [[node.weight, 'linear']]
            : [
                [node.weight, 'linear'],
                [node.bias, 'bias'],
              ],
        buffers: [],
      };
    case 'batch_norm':
      return {
        params: [
          [node.gamma, 'gamma'],
          [node.beta, 'beta'],
        ],
        buffers: [node.runningMean, node.runningVar],
      };
    default:
      return { params: [], buffers: [] };
  }
}

function requireUnique(where: string, what: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (name === '') throw new UsageError(`${where} a ${what} has an empty name.`);
    if (seen.has(name)) throw new UsageError(`${where} two ${what}s are called "${name}".`);
    seen.add(name);
  }
}

function validateParams(where: string, graph: Graph): void {
  const paramOwner = new Map<number, GraphNode>();
  const bufferOwner = new Map<number, GraphNode>();
  for (const node of graph.nodes) {
    const { params, buffers } = ownedBy(node);
    for (const [index, kind] of params) {
      const param = graph.params[index]!;
      const other = paramOwner.get(index);
      if (other)
        throw new UsageError(
          `${at(node)} shares parameter ${param.name} with ${other.name}; give each its own.`,
        );
      paramOwner.set(index, node);
      if (param.kind !== kind || param.prunable !== (kind === 'conv' || kind === 'linear')) {
        throw new UsageError(
          `${at(node)} expected parameter ${param.name} of kind ${kind}, got ${param.kind}, ${param.prunable ? '' : 'not '}prunable. Conv and linear weights are prunable, nothing else.`,
        );
      }
      if (param.node !== node.id) {
        throw new UsageError(
          `${at(node)} uses parameter ${param.name}, which names node ${param.node} as its own.`,
        );
      }
      if (param.numel !== param.shape.reduce((product, size) => product * size, 1)) {
        throw new UsageError(
          `${where} ${param.name}: ${param.numel} elements in shape ${showShape(param.shape)}.`,
        );
      }
    }
    for (const index of buffers) {
      const buffer = graph.buffers[index];
      if (buffer === undefined || bufferOwner.has(index) || buffer.numel !== node.shape[0]) {
        throw new UsageError(
          `${at(node)} expected buffer ${index} to be its own, of ${node.shape[0]} elements.`,
        );
      }
      bufferOwner.set(index, node);
    }
  }
  const orphan =
    graph.params.find((_, index) => !paramOwner.has(index)) ??
    graph.buffers.find((_, index) => !bufferOwner.has(index));
  if (orphan) throw new UsageError(`${where} no node uses ${orphan.name}.`);
}

/** @throws {UsageError} that says where, what was expected, and what came. */
export function validateGraph(graph: Graph): void {
  const where = `[graph ${graph.name}]`;
  const used = new Set<number>();
  for (const [id, node] of graph.nodes.entries()) {
    if (node.id !== id) throw new UsageError(`${at(node)} stands at ${id}, but its id is ${node.id}.`);
    if ((node.op === 'input') !== (id === 0)) {
      throw new UsageError(`${at(node)} expected node 0, and no other, to be the input.`);
    }
    for (const input of inputsOf(node)) {
      if (!(input >= 0 && input < id)) {
        throw new UsageError(
          `${at(node)} reads node ${input}; nodes stand in topological order, so only 0 to ${id - 1}.`,
        );
      }
      used.add(input);
    }
    const shape = inferShape(node, graph);
    if (node.shape.length !== 3 || shape.some((size, axis) => size !== node.shape[axis])) {
      throw new UsageError(`${at(node)} expected shape ${showShape(shape)}, got ${showShape(node.shape)}.`);
    }
  }
  requireUnique(
    where,
    'node',
    graph.nodes.map(({ name }) => name),
  );
  requireUnique(
    where,
    'parameter',
    graph.params.map(({ name }) => name),
  );
  requireUnique(
    where,
    'buffer',
    graph.buffers.map(({ name }) => name),
  );
  validateParams(where, graph);

  const last = graph.nodes.at(-1);
  if (last === undefined || last.shape[0] !== graph.classes || last.shape[1] !== 1 || last.shape[2] !== 1) {
    throw new UsageError(
      `${where} expected the last node to give logits (${graph.classes}, 1, 1), got ${last ? `${last.name} ${showShape(last.shape)}` : 'no node'}. End with globalAvgPool and linear.`,
    );
  }
  const dead = graph.nodes.find((node) => node !== last && !used.has(node.id));
  if (dead) throw new UsageError(`${at(dead)} leads nowhere: no node reads it. Leave it out, or use it.`);
  if (!graph.params.some(({ prunable }) => prunable)) throw new UsageError(`${where} has no weights.`);
}

/**
 * Graph ⇄ its message in checkpoint.proto. Decoding trusts nothing: indices and sizes are checked here, the rest
 * by validateGraph, so that a damaged or hostile file cannot reach the engine.
 */

import type { Graph, GraphNode, ImageShape, ParamKind, ParamSpec } from '../graph/types.js';
import { validateGraph } from '../graph/validate.js';
import type { random_pruning as pb } from './checkpoint.pb.js';
import type { GraphMessage, NodeMessage, ParamMessage } from './messages.js';

/** Elements of one tensor that this program handles. */
export const maxElements = 2 ** 31 - 1;
const paramKinds: readonly string[] = ['conv', 'linear', 'bias', 'gamma', 'beta'] satisfies ParamKind[];

export function graphToMessage(graph: Graph): pb.Graph.$Properties {
  return {
    name: graph.name,
    nodes: graph.nodes.map(nodeToMessage),
    params: graph.params.map(({ name, kind, shape, prunable, node }) => {
      return { name, kind, shape: [...shape], prunable, node };
    }),
    buffers: graph.buffers.map(({ name, numel }) => ({ name, numel })),
    input: [...graph.input],
    classes: graph.classes,
  };
}

function nodeToMessage(node: GraphNode): pb.Node.$Properties {
  const { name, op, shape } = node;
  const base = { name, op, shape: [...shape] };
  switch (node.op) {
    case 'input':
      return base;
    case 'conv2d': {
      const { kernel, stride, padding } = node;
      return { ...base, inputs: [node.input], kernel: [...kernel], stride, padding, params: [node.weight] };
    }
    case 'batch_norm': {
      const { epsilon, momentum } = node;
      const buffers = [node.runningMean, node.runningVar];
      return { ...base, inputs: [node.input], params: [node.gamma, node.beta], buffers, epsilon, momentum };
    }
    case 'relu':
    case 'global_avg_pool':
      return { ...base, inputs: [node.input] };
    case 'add':
      return { ...base, inputs: [...node.inputs] };
    case 'max_pool':
      return {
        ...base,
        inputs: [node.input],
        kernel: [node.kernel, node.kernel],
        stride: node.stride,
        padding: node.padding,
      };
    case 'avg_pool':
      return { ...base, inputs: [node.input], kernel: [node.kernel, node.kernel], stride: node.stride };
    case 'linear': {
      const params = node.bias === null ? [node.weight] : [node.weight, node.bias];
      return { ...base, inputs: [node.input], params };
    }
  }
}

/** Throws a plain Error that says what is wrong; the caller knows the file and the offset. */
export function graphFromMessage(message: GraphMessage): Graph {
  const params = message.params.map((param) => paramFromMessage(param, message.nodes.length));
  const buffers = message.buffers.map(({ name, numel }) => ({ name, numel: size(numel, `buffer ${name}`) }));
  const nodes: GraphNode[] = [];
  for (const node of message.nodes) nodes.push(nodeFromMessage(node, nodes.length, params, buffers));
  if (nodes[0]?.op !== 'input') throw new Error('expected an input as node 0 of the graph');
  const classes = size(message.classes, 'classes');
  const input = imageShape(message.input, 'input');
  const graph = { name: message.name, nodes, params, buffers, input, classes };
  validateGraph(graph);
  return graph;
}

function paramFromMessage(message: ParamMessage, nodes: number): ParamSpec {
  const { name, kind, shape, prunable, node } = message;
  if (!paramKinds.includes(kind)) throw new Error(`unknown kind "${kind}" of parameter ${name}`);
  if (shape.length < 1 || shape.length > 4) throw new Error(`${name} has ${shape.length} dimensions`);
  const numel = size(
    shape.reduce((product, extent) => product * extent, 1),
    name,
  );
  if (node >= nodes) throw new Error(`${name} belongs to node ${node} of ${nodes}`);
  return { name, kind: kind as ParamKind, shape, numel, prunable, node };
}

function nodeFromMessage(
  message: NodeMessage,
  id: number,
  params: readonly ParamSpec[],
  buffers: readonly { numel: number }[],
): GraphNode {
  const { name, op, stride, padding, epsilon, momentum } = message;
  const base = { id, name, shape: imageShape(message.shape, name) };
  const index = (list: readonly number[], at: number, limit: number, what: string): number => {
    const value = list[at];
    if (value === undefined || value >= limit)
      throw new Error(`node ${name} has no valid ${what} ${at}: ${value}`);
    return value;
  };
  const input = (at = 0) => index(message.inputs, at, id, 'input'); // earlier nodes only: topological order
  const param = (at: number) => index(message.params, at, params.length, 'parameter');
  const buffer = (at: number) => index(message.buffers, at, buffers.length, 'buffer');
  const kernel = (at: number) => size(message.kernel[at] ?? 0, `kernel of ${name}`);
  const positiveStride = () => size(stride, `stride of ${name}`);
  switch (op) {
    case 'input':
      return { ...base, op };
    case 'conv2d':
      return {
        ...{ ...base, op, input: input(), kernel: [kernel(0), kernel(1)] as const },
        ...{ stride: positiveStride(), padding, weight: param(0) },
      };
    case 'batch_norm':
      return {
        ...{ ...base, op, input: input(), epsilon, momentum, gamma: param(0), beta: param(1) },
        ...{ runningMean: buffer(0), runningVar: buffer(1) },
      };
    case 'relu':
    case 'global_avg_pool':
      return { ...base, op, input: input() };
    case 'add':
      return { ...base, op, inputs: [input(0), input(1)] };
    case 'max_pool':
      return { ...base, op, input: input(), kernel: kernel(0), stride: positiveStride(), padding };
    case 'avg_pool':
      return { ...base, op, input: input(), kernel: kernel(0), stride: positiveStride() };
    case 'linear':
      return {
        ...base,
        op,
        input: input(),
        weight: param(0),
        bias: message.params.length > 1 ? param(1) : null,
      };
    default:
      throw new Error(`unknown operation "${op}" of node ${name}`);
  }
}

function imageShape(shape: readonly number[], name: string): ImageShape {
  const [channels, height, width] = shape;
  if (shape.length !== 3)
    throw new Error(`${name} has ${shape.length} dimensions, expected channels, height, width`);
  size(channels! * height! * width!, name);
  return [channels!, height!, width!];
}

function size(value: number, what: string): number {
  if (!(value >= 1 && value <= maxElements))
    throw new Error(`expected a size in [1, 2^31) for ${what}, got ${value}`);
  return value;
}

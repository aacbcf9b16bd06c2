/**
 * Shape inference: the output of one image, and the errors a wrong shape gives (STYLE §8). The builder asks while a
 * network is built, the validator asks again for graphs made by hand.
 */
import { UsageError } from '../errors.js';
import type { Graph, GraphNode, ImageShape } from './types.js';

/** Omit that keeps a discriminated union discriminated. */
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A node whose output shape is not known yet. */
export type UnshapedNode = DistributiveOmit<GraphNode, 'shape'>;

export const showShape = (shape: readonly number[]): string => `(${shape.join(', ')})`;

/** `[conv2d blocks.0.conv1]`, the start of every message about a node. */
export const at = (node: { readonly op: string; readonly name: string }): string =>
  `[${node.op} ${node.name}]`;

/** The nodes whose output `node` reads, as indices. */
export function inputsOf(node: UnshapedNode): readonly number[] {
  if (node.op === 'input') return [];
  return node.op === 'add' ? node.inputs : [node.input];
}

function requireWhole(node: UnshapedNode, what: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) {
    throw new UsageError(`${at(node)} expected ${what} to be a whole number >= ${least}, got ${value}.`);
  }
}

/** Positions a window of `kernel` takes along `size` padded pixels. */
function windows(
  node: UnshapedNode & { readonly stride: number },
  x: ImageShape,
  kernel: readonly [number, number],
  padding: number,
): [number, number] {
  requireWhole(node, 'kernel height', kernel[0], 1);
  requireWhole(node, 'kernel width', kernel[1], 1);
  requireWhole(node, 'stride', node.stride, 1);
  requireWhole(node, 'padding', padding, 0);
  const height = x[1] + 2 * padding;
  const width = x[2] + 2 * padding;
  if (height < kernel[0] || width < kernel[1]) {
    throw new UsageError(
      `${at(node)} expected x to hold a ${kernel[0]}x${kernel[1]} window, got x ${showShape(x)} with padding ${padding}. Take a larger image, or pool less before it.`,
    );
  }
  return [
    Math.floor((height - kernel[0]) / node.stride) + 1,
    Math.floor((width - kernel[1]) / node.stride) + 1,
  ];
}

function weightShape(node: UnshapedNode, graph: Pick<Graph, 'params'>, index: number): readonly number[] {
  const param = graph.params[index];
  if (param === undefined)
    throw new UsageError(`${at(node)} refers to parameter ${index}, which does not exist.`);
  return param.shape;
}

/**
 * Output shape of `node`.
 * @throws {UsageError} where its inputs, attributes and weights do not fit each other.
 */
export function inferShape(node: UnshapedNode, graph: Pick<Graph, 'nodes' | 'params' | 'input'>): ImageShape {
  const xs = inputsOf(node).map((id) => {
    const input = graph.nodes[id];
    if (input === undefined) throw new UsageError(`${at(node)} reads node ${id}, which does not exist.`);
    return input.shape;
  });
  const x = xs[0]!;
  switch (node.op) {
    case 'input':
      return graph.input;
    case 'relu':
      return x;
    case 'batch_norm':
      for (const [what, index] of [
        ['gamma', node.gamma],
        ['beta', node.beta],
      ] as const) {
        const shape = weightShape(node, graph, index);
        if (shape.length !== 1 || shape[0] !== x[0]) {
          throw new UsageError(
            `${at(node)} expected ${what} to be (${x[0]}) for x ${showShape(x)}, got ${showShape(shape)}.`,
          );
        }
      }
      return x;
    case 'conv2d': {
      const w = weightShape(node, graph, node.weight);
      if (w.length !== 4 || w[2] !== node.kernel[0] || w[3] !== node.kernel[1]) {
        throw new UsageError(
          `${at(node)} expected w to be (out, in, ${node.kernel.join(', ')}), got ${showShape(w)}.`,
        );
      }
      if (w[1] !== x[0]) {
        throw new UsageError(
          `${at(node)} expected x to have ${w[1]} channels for w ${showShape(w)}, got x ${showShape(x)}.`,
        );
      }
      return [w[0]!, ...windows(node, x, node.kernel, node.padding)];
    }
    case 'max_pool':
      // Otherwise a window could lie in the padding alone, and have no maximum.
      if (2 * node.padding > node.kernel) {
        throw new UsageError(
          `${at(node)} expected padding to be at most half of kernel ${node.kernel}, got ${node.padding}.`,
        );
      }
      return [x[0], ...windows(node, x, [node.kernel, node.kernel], node.padding)];
    case 'avg_pool':
      return [x[0], ...windows(node, x, [node.kernel, node.kernel], 0)];
    case 'global_avg_pool':
      return [x[0], 1, 1];
    case 'add': {
      const y = xs[1]!;
      if (x.some((size, axis) => size !== y[axis])) {
        throw new UsageError(
          `${at(node)} expected two inputs of equal shape, got ${showShape(x)} and ${showShape(y)}. A shortcut that changes shape needs a projection (a 1x1 convolution).`,
        );
      }
      return x;
    }
    case 'linear': {
      const w = weightShape(node, graph, node.weight);
      const features = x[0] * x[1] * x[2];
      if (w.length !== 2 || w[1] !== features) {
        throw new UsageError(
          `${at(node)} expected w to be (out, ${features}) for x ${showShape(x)}, got ${showShape(w)}.`,
        );
      }
      if (node.bias !== null) {
        const bias = weightShape(node, graph, node.bias);
        if (bias.length !== 1 || bias[0] !== w[0]) {
          throw new UsageError(`${at(node)} expected bias to be (${w[0]}), got ${showShape(bias)}.`);
        }
      }
      return [w[0]!, 1, 1];
    }
  }
}

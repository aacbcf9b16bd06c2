/** What a graph's parameters cost: prunable layers as ratio policies see them (SPEC 1.1), and the totals of SPEC 1.5. */
import type { Graph, PrunableLayer } from './types.js';

/** Conv and linear weights in registration order, with the multiply-accumulates of one image. */
export function prunableLayers(graph: Graph): PrunableLayer[] {
  return graph.params.flatMap(({ name, shape, numel, prunable, node }, param) => {
    if (!prunable) return [];
    const [, height, width] = graph.nodes[node]!.shape;
    return [{ name, shape, numel, macs: numel * height * width, param }];
  });
}

/** Every parameter, batch norm and biases included. */
export function paramCount(graph: Graph): number {
  return graph.params.reduce((total, { numel }) => total + numel, 0);
}

/** Multiply-accumulates of the dense network's convolutions and linear layers for one image. */
export function macCount(graph: Graph): number {
  return prunableLayers(graph).reduce((total, { macs }) => total + macs, 0);
}

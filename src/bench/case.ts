/**
 * What every contestant of a training bench starts from: one directory with the graph as lines of text, the same
 * initial weights, and one batch. Written once an architecture; bench/train/main.cpp, bench/peers/torch_step.py and
 * src/bench/ours.ts read it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildModel } from '../architectures/index.js';
import type { Graph, GraphNode } from '../graph/types.js';
import { initialWeights } from '../training/initialise.js';

/** case.json */
export interface BenchCase {
  readonly arch: string;
  readonly batchSize: number;
  /** In the order of weights.f32, graph.params. */
  readonly params: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly input: readonly number[];
  readonly classes: number;
  readonly lr: number;
  readonly momentum: number;
  readonly weightDecay: number;
}

/** Nothing depends on these but the work of an update; the rate is low so that a repeated batch stays finite and rounding stays small. */
export const benchOptimiser = { lr: 0.001, momentum: 0.9, weightDecay: 5e-4 } as const;

function attributes(node: GraphNode, graph: Graph): readonly number[] {
  switch (node.op) {
    case 'conv2d':
      return [node.shape[0], ...node.kernel, node.stride, node.padding];
    case 'max_pool':
      return [node.kernel, node.stride, node.padding];
    case 'avg_pool':
      return [node.kernel, node.stride];
    case 'linear':
      return [graph.params[node.weight]!.shape[0]!, node.bias === null ? 0 : 1];
    default:
      return [];
  }
}

/** `batch N`, then a line a node: `op inputs | attributes | epsilon | C H W` (bench/train/onednn_net.h). */
export function graphText(graph: Graph, batchSize: number): string {
  const lines = graph.nodes.map((node) => {
    const inputs = 'inputs' in node ? node.inputs : 'input' in node ? [node.input] : [];
    const epsilon = node.op === 'batch_norm' ? node.epsilon : 0;
    return [node.op, ...inputs, '|', ...attributes(node, graph), '|', epsilon, '|', ...node.shape].join(' ');
  });
  return `batch ${batchSize}\n${lines.join('\n')}\n`;
}

/** Values in [-1.5, 1.5) that depend on their position only: a batch needs no data set to be timed. */
function fill(values: Float32Array): Float32Array {
  let state = 12345;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 32) * 3 - 1.5;
  }
  return values;
}

/** Writes a case into an empty directory. */
export function writeCase(directory: string, arch: string, batchSize: number): void {
  const model = buildModel(arch);
  const { graph } = model;
  const file = (name: string) => join(directory, name);
  const weights = initialWeights(graph, { scheme: model.initialisation, seed: 1 });
  // One parameter's bytes at a time: a wide network's weights would be in memory three times otherwise.
  writeFileSync(file('weights.f32'), '');
  for (const { name } of graph.params) {
    const { buffer, byteOffset, byteLength } = weights.get(name)!;
    writeFileSync(file('weights.f32'), new Uint8Array(buffer, byteOffset, byteLength), { flag: 'a' });
  }
  const [channels, height, width] = graph.input;
  writeFileSync(file('images.f32'), fill(new Float32Array(batchSize * channels * height * width)));
  writeFileSync(
    file('labels.i32'),
    Int32Array.from({ length: batchSize }, (_, i) => (i * 7) % graph.classes),
  );
  writeFileSync(file('graph.txt'), graphText(graph, batchSize));
  const description: BenchCase = {
    arch,
    batchSize,
    params: graph.params.map(({ name, shape }) => ({ name, shape })),
    input: graph.input,
    classes: graph.classes,
    ...benchOptimiser,
  };
  writeFileSync(file('case.json'), `${JSON.stringify(description)}\n`);
}

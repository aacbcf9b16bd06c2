/** A small checkpoint with every kind of node, parameter and tensor, for tests of the format. */
import type { Checkpoint, ParamState } from '../../src/checkpoint/checkpoint.js';
import { encodeCheckpoint } from '../../src/checkpoint/encode.js';
import type { Values } from '../../src/engine/session.js';
import type { Graph, GraphNode, ParamKind, ParamSpec } from '../../src/graph/types.js';
import type { Mask } from '../../src/masks/mask.js';

/** conv → bn → relu → max pool, beside itself through add, → average pools → linear. */
export function smallGraph(): Graph {
  const shape = [2, 4, 4] as const;
  const half = [2, 2, 2] as const;
  const nodes: GraphNode[] = [
    { id: 0, name: 'input', op: 'input', shape: [3, 4, 4] },
    { id: 1, name: 'conv', op: 'conv2d', shape, input: 0, kernel: [3, 3], stride: 1, padding: 1, weight: 0 },
    {
      ...({ id: 2, name: 'bn', op: 'batch_norm', shape, input: 1, epsilon: 1e-5, momentum: 0.1 } as const),
      ...{ gamma: 1, beta: 2, runningMean: 0, runningVar: 1 },
    },
    { id: 3, name: 'relu', op: 'relu', shape, input: 2 },
    { id: 4, name: 'add', op: 'add', shape, inputs: [3, 1] },
    { id: 5, name: 'max', op: 'max_pool', shape: half, input: 4, kernel: 3, stride: 2, padding: 1 },
    { id: 6, name: 'avg', op: 'avg_pool', shape: [2, 1, 1], input: 5, kernel: 2, stride: 2 },
    { id: 7, name: 'pool', op: 'global_avg_pool', shape: [2, 1, 1], input: 6 },
    { id: 8, name: 'fc', op: 'linear', shape: [3, 1, 1], input: 7, weight: 3, bias: 4 },
  ];
  const param = (name: string, kind: ParamKind, dims: number[], node: number): ParamSpec => {
    const numel = dims.reduce((a, b) => a * b, 1);
    return { name, kind, shape: dims, numel, prunable: kind === 'conv' || kind === 'linear', node };
  };
  return {
    ...{ name: 'small', nodes, input: [3, 4, 4], classes: 3 },
    params: [
      param('conv.weight', 'conv', [2, 3, 3, 3], 1),
      param('bn.weight', 'gamma', [2], 2),
      param('bn.bias', 'beta', [2], 2),
      param('fc.weight', 'linear', [3, 2], 8),
      param('fc.bias', 'bias', [3], 8),
    ],
    buffers: [
      { name: 'bn.running_mean', numel: 2 },
      { name: 'bn.running_var', numel: 2 },
    ],
  };
}

export function maskOf(shape: readonly number[], kept: (i: number) => boolean): Mask {
  const numel = shape.reduce((a, b) => a * b, 1);
  const bits = new Uint8Array(Math.ceil(numel / 8));
  let nnz = 0;
  for (let i = 0; i < numel; i++) {
    if (!kept(i)) continue;
    bits[i >> 3]! |= 1 << (i & 7);
    nnz++;
  }
  return { shape, numel, nnz, bits };
}

export interface SmallOptions {
  readonly element?: 'float32' | 'float64';
  readonly kept?: (i: number) => boolean;
  readonly value?: (i: number) => number;
  readonly step?: number;
  readonly graph?: Graph;
}

export function smallCheckpoint(options: SmallOptions = {}): Checkpoint {
  const {
    element = 'float32',
    kept = (i) => i % 3 === 0,
    value = (i) => Math.sin(i + 1),
    step = 7,
  } = options;
  const { graph = smallGraph() } = options;
  const values = (count: number, from: number): Values =>
    element === 'float32'
      ? Float32Array.from({ length: count }, (_, i) => value(from + i))
      : Float64Array.from({ length: count }, (_, i) => value(from + i));
  const masks = graph.params.map(({ kind, shape }) => (kind === 'conv' ? maskOf(shape, kept) : null));
  const params = graph.params.map(({ numel }, i): ParamState => {
    const count = masks[i]?.nnz ?? numel;
    return { values: values(count, 100 * i), momentum: values(count, 1000 * i) };
  });
  return {
    ...{
      writer: 'random-pruning test',
      graph,
      config: { arch: 'small', milestones: [1, 2] },
      plan: '{"isa":"x"}',
    },
    maskRecipe: null,
    optimizer: { momentum: 0.9, nesterov: true, labelSmoothing: 0.1, weightDecay: [5e-4, 0, 0, 5e-4, 0] },
    position: {
      ...{ step, stepsPerEpoch: 5, epochs: 2, numBatchesTracked: step, epochLossSum: 1.5, epochImages: 20 },
      ...{ epochCorrect: 9, images: 70, seconds: 0.25, trainLoss: 2.25, bestTestAccuracy: null },
    },
    ...{
      engine: element === 'float32' ? 'cpu' : 'reference',
      best: { epoch: 1, accuracy: 0.5, loss: 1.25, testAccuracy: 0.25, testLoss: 1.5 },
    },
    seeds: { init: 17, mask: 2 ** 52 + 1, data: 0 },
    ...{ masks, params, buffers: graph.buffers.map(({ numel }, i) => values(numel, 7 * i)) },
  };
}

export function encoded(checkpoint: Checkpoint): Buffer {
  return Buffer.concat([...encodeCheckpoint(checkpoint)]);
}

/**
 * A session's arguments as the addon reads them (native/bindings/model.cpp, session.cpp): a graph flattened to the
 * arrays of engine_abi.h, and every option given.
 */
import { validateGraph } from '../graph/index.js';
import type { Graph, GraphNode } from '../graph/types.js';
import type { Mask } from '../masks/mask.js';
import type { BatchResult, ProfileEvent, Program, TensorKind, Values } from './session.js';

/** RpNode; -1: none. */
export interface NativeNode {
  readonly name: string;
  readonly op: number;
  readonly inputs: readonly number[];
  readonly shape: readonly number[];
  readonly kernel: readonly number[];
  readonly stride: number;
  readonly padding: number;
  readonly params: readonly number[];
  readonly buffers: readonly number[];
  readonly epsilon: number;
  readonly momentum: number;
}

/** RpParam. */
export interface NativeParam {
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
  readonly nnz: number;
  readonly bits: Uint8Array | null;
  readonly weightDecay: number;
}

/** RpModel. */
export interface NativeModel {
  readonly nodes: readonly NativeNode[];
  readonly params: readonly NativeParam[];
  readonly buffers: readonly { readonly name: string; readonly numel: number }[];
}

/** RpSessionConfig. */
export interface NativeConfig {
  readonly maxBatch: number;
  readonly threads: number;
  readonly pin: boolean;
  readonly programs: number;
  readonly plan: string | null;
  readonly measure: boolean;
  /** Lines `key<tab>choice`. */
  readonly tiles: string;
}

interface NativeLoss {
  readonly labelSmoothing: number;
  readonly logitScale: number;
}
interface NativeSgd {
  readonly lr: number;
  readonly momentum: number;
  readonly nesterov: boolean;
}
interface NativeGradientOptions extends NativeLoss {
  readonly weight: number;
  readonly accumulate: boolean;
  readonly updateRunningStats: boolean;
}

/** RpRunResult. */
export interface NativeRunResult {
  readonly stepsDone: number;
  readonly images: number;
  readonly correct: number;
  readonly lossSum: number;
  readonly stepLosses: Float64Array;
  readonly waitSeconds: number;
  readonly seconds: number;
  readonly failedStep: number;
  readonly failedLayer: string;
}

/** The addon's session. Calls run in the order made, each on the session's own thread. */
export interface NativeSession {
  /** `profiles`: whether the engine has startProfile and stopProfile. */
  /** `cancel[0]` non-zero ends a search; the promise is then rejected. */
  open(
    cancel: Int32Array,
  ): Promise<{ plan: string; activations: number; parameters: number; profiles: boolean }>;
  gradient(images: Values, labels: Int32Array, options: NativeGradientOptions): Promise<BatchResult>;
  tangent(images: Values, labels: Int32Array, options: NativeGradientOptions): Promise<BatchResult>;
  update(sgd: NativeSgd): Promise<void>;
  step(images: Values, labels: Int32Array, options: NativeSgd & NativeLoss): Promise<BatchResult>;
  /** `cancel[0]` set to 1 stops before the next step. */
  run(
    stream: unknown,
    options: { firstStep: number; momentum: number; nesterov: boolean } & NativeLoss,
    lr: Float64Array,
    cancel: Int32Array,
  ): Promise<NativeRunResult>;
  evaluate(images: Values, labels: Int32Array, loss: NativeLoss): Promise<BatchResult & { logits: Values }>;
  evaluateStream(
    stream: unknown,
    cancel: Int32Array,
  ): Promise<{ images: number; correct: number; nllSum: number }>;
  inputGradient(
    images: Values,
    labels: Int32Array,
    loss: NativeLoss,
    inputScale: Float64Array,
  ): Promise<BatchResult & { gradient: Values }>;
  read(kind: number, index: number): Promise<Values>;
  write(kind: number, index: number, values: Values): Promise<void>;
  startProfile(): Promise<void>;
  stopProfile(): Promise<ProfileEvent[]>;
  dispose(): Promise<void>;
}

/** The addon's part for sessions (native/bindings/session.cpp). */
export interface NativeSessions {
  /** Names of the engines that this build serves. */
  engines(): string[];
  /** The kernels' instruction sets that this processor has, best first; the one in use; cores of this process. */
  cpu(): { isas: string[]; isa: string; cores: number };
  /** Bytes outside of its heap that V8 has been told of in all. */
  externalMemory(): number;
  planMemory(
    engine: string,
    model: NativeModel,
    config: NativeConfig,
  ): { activations: number; parameters: number; searches: number };
  readonly NativeSession: new (engine: string, model: NativeModel, config: NativeConfig) => NativeSession;
}

/** RpOp. */
const OPS = {
  input: 0,
  conv2d: 1,
  batch_norm: 2,
  relu: 3,
  add: 4,
  max_pool: 5,
  avg_pool: 6,
  global_avg_pool: 7,
  linear: 8,
} as const satisfies Record<GraphNode['op'], number>;

/** RpProgram. */
const PROGRAMS = { train: 1, eval: 2, inputGradient: 4, tangent: 8 } as const satisfies Record<
  Program,
  number
>;

/** RpTensorKind. */
export const TENSOR_KINDS = {
  value: 0,
  gradient: 1,
  momentum: 2,
  direction: 3,
  gradientTangent: 4,
  running: 5,
} as const satisfies Record<TensorKind, number>;

export const PROGRAM_NAMES = Object.keys(PROGRAMS) as Program[];

export function programBits(programs: readonly Program[]): number {
  return programs.reduce((bits, program) => bits | PROGRAMS[program], 0);
}

function nativeNode(node: GraphNode): NativeNode {
  const base = {
    name: node.name,
    op: OPS[node.op],
    inputs: [-1, -1],
    shape: node.shape,
    kernel: [0, 0],
    stride: 0,
    padding: 0,
    params: [-1, -1],
    buffers: [-1, -1],
    epsilon: 0,
    momentum: 0,
  };
  switch (node.op) {
    case 'input':
      return base;
    case 'add':
      return { ...base, inputs: node.inputs };
    case 'relu':
    case 'global_avg_pool':
      return { ...base, inputs: [node.input, -1] };
    case 'conv2d': {
      const { kernel, stride, padding } = node;
      return { ...base, inputs: [node.input, -1], kernel, stride, padding, params: [node.weight, -1] };
    }
    case 'linear':
      return { ...base, inputs: [node.input, -1], params: [node.weight, node.bias ?? -1] };
    case 'batch_norm': {
      const { epsilon, momentum } = node;
      const params = [node.gamma, node.beta];
      const buffers = [node.runningMean, node.runningVar];
      return { ...base, inputs: [node.input, -1], params, buffers, epsilon, momentum };
    }
    case 'max_pool': {
      const { stride, padding } = node;
      return { ...base, inputs: [node.input, -1], kernel: [node.kernel, node.kernel], stride, padding };
    }
    case 'avg_pool':
      return {
        ...base,
        inputs: [node.input, -1],
        kernel: [node.kernel, node.kernel],
        stride: node.stride,
      };
  }
}

/** One mask and one weight decay a parameter; the graph must be whole (validateGraph throws where it is not). */
export function nativeModel(
  graph: Graph,
  masks: readonly (Mask | null)[],
  weightDecay: readonly number[],
): NativeModel {
  validateGraph(graph);
  return {
    nodes: graph.nodes.map(nativeNode),
    params: graph.params.map(({ name, shape, numel }, index) => {
      const mask = masks[index] ?? null;
      return {
        name,
        shape,
        numel,
        nnz: mask?.nnz ?? numel,
        bits: mask?.bits ?? null,
        weightDecay: weightDecay[index] ?? 0,
      };
    }),
    buffers: graph.buffers.map(({ name, numel }) => ({ name, numel })),
  };
}

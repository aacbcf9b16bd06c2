/**
 * The typed graph: what an architecture builds and every engine runs. Shapes are per image, channels first.
 * Nodes are a discriminated union keyed by `op`, in topological order; node 0 is the input, the last node gives
 * the logits. Parameters stand in registration order (SPEC 1): masks, gradients and golden files use it.
 */

/** Channels, height, width of one image or activation. */
export type ImageShape = readonly [channels: number, height: number, width: number];

interface NodeBase {
  /** Index of this node in `Graph.nodes`. */
  readonly id: number;
  /** The module's name as PyTorch would give it (`blocks.0.conv1`); unique. */
  readonly name: string;
  /** Output shape of one image. */
  readonly shape: ImageShape;
}

export interface InputNode extends NodeBase {
  readonly op: 'input';
}
export interface Conv2dNode extends NodeBase {
  readonly op: 'conv2d';
  readonly input: number;
  readonly kernel: readonly [height: number, width: number];
  readonly stride: number;
  readonly padding: number;
  /** Index of the weight (O, I, kh, kw) in `Graph.params`. */
  readonly weight: number;
}
export interface BatchNormNode extends NodeBase {
  readonly op: 'batch_norm';
  readonly input: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly gamma: number;
  readonly beta: number;
  /** Indices into `Graph.buffers`. */
  readonly runningMean: number;
  readonly runningVar: number;
}
export interface ReluNode extends NodeBase {
  readonly op: 'relu';
  readonly input: number;
}
export interface AddNode extends NodeBase {
  readonly op: 'add';
  readonly inputs: readonly [number, number];
}
export interface MaxPoolNode extends NodeBase {
  readonly op: 'max_pool';
  readonly input: number;
  readonly kernel: number;
  readonly stride: number;
  readonly padding: number;
}
export interface AvgPoolNode extends NodeBase {
  readonly op: 'avg_pool';
  readonly input: number;
  readonly kernel: number;
  readonly stride: number;
}
export interface GlobalAvgPoolNode extends NodeBase {
  readonly op: 'global_avg_pool';
  readonly input: number;
}
export interface LinearNode extends NodeBase {
  readonly op: 'linear';
  readonly input: number;
  /** Index of the weight (out, in). */
  readonly weight: number;
  /** Index of the bias, or null. */
  readonly bias: number | null;
}

export type GraphNode =
  | InputNode
  | Conv2dNode
  | BatchNormNode
  | ReluNode
  | AddNode
  | MaxPoolNode
  | AvgPoolNode
  | GlobalAvgPoolNode
  | LinearNode;

export type ParamKind = 'conv' | 'linear' | 'bias' | 'gamma' | 'beta';

export interface ParamSpec {
  /** PyTorch's parameter name: `conv.weight`, `layer1.0.bn1.bias`. */
  readonly name: string;
  readonly kind: ParamKind;
  /** OIHW, OI, or C. */
  readonly shape: readonly number[];
  readonly numel: number;
  /** Conv and linear weights; never biases or batch norm (SPEC 1.1). */
  readonly prunable: boolean;
  /** The node that uses it. */
  readonly node: number;
}

export interface BufferSpec {
  /** `bn.running_mean`, `bn.running_var`. */
  readonly name: string;
  readonly numel: number;
}

export interface Graph {
  readonly name: string;
  readonly nodes: readonly GraphNode[];
  readonly params: readonly ParamSpec[];
  readonly buffers: readonly BufferSpec[];
  readonly input: ImageShape;
  readonly classes: number;
}

/** A prunable layer as ratio policies see it (SPEC 2): the weight, with the cost of one image. */
export interface PrunableLayer {
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
  /** Multiply-accumulates of one image, dense. */
  readonly macs: number;
  /** Index into `Graph.params`. */
  readonly param: number;
}

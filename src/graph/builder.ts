/**
 * Builds a graph node by node, as an architecture reads in its paper. Shapes are inferred and checked while building;
 * parameters register in building order, so building a block in PyTorch's module order gives PyTorch's parameter
 * order and names (SPEC 1.2-1.4).
 *
 *   const g = new GraphBuilder('tiny', [3, 32, 32]);
 *   const features = g.convBnRelu(g.input, { out: 16, kernel: 3 });       // conv1.weight, bn1.weight, bn1.bias
 *   const graph = g.build(g.linear(g.globalAvgPool(features), { out: 10, name: 'fc' }));
 *
 * Names: `scope` prefixes what is built inside it. A node without a name gets its kind and a number (`conv2`); a batch
 * norm built with its convolution gets PyTorch's customary partner name (`conv2` → `bn2`, `shortcut.0` → `shortcut.1`).
 */
import { UsageError } from '../errors.js';
import { at, inferShape, showShape, type UnshapedNode } from './shapes.js';
import type { BufferSpec, Graph, GraphNode, ImageShape, ParamKind, ParamSpec } from './types.js';
import { validateGraph } from './validate.js';

export interface ConvOptions {
  /** Output channels. */
  readonly out: number;
  /** Side of a square kernel, or [height, width]. */
  readonly kernel: number | readonly [height: number, width: number];
  /** Default 1. */
  readonly stride?: number;
  /** Zero pixels on each side; default (kernel - 1) / 2, which keeps the size at stride 1. */
  readonly padding?: number;
  readonly name?: string;
}

export interface BatchNormOptions {
  readonly name?: string;
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** Weight of the newest batch in the running statistics; default 0.1. */
  readonly momentum?: number;
}

export interface ConvBnOptions extends ConvOptions {
  /** Name of the batch norm, where the customary one does not fit. */
  readonly bn?: string;
}

export interface PoolOptions {
  readonly kernel: number;
  /** Default: the kernel. */
  readonly stride?: number;
  readonly name?: string;
}

export interface LinearOptions {
  /** Output features. */
  readonly out: number;
  /** Default true. */
  readonly bias?: boolean;
  readonly name?: string;
}

interface NameOption {
  readonly name?: string;
}

/** What unnamed nodes are called. */
const autoName: Record<GraphNode['op'], string> = {
  input: 'input',
  conv2d: 'conv',
  batch_norm: 'bn',
  relu: 'relu',
  add: 'add',
  max_pool: 'maxpool',
  avg_pool: 'avgpool',
  global_avg_pool: 'avgpool',
  linear: 'linear',
};

/** The batch norm after `conv`, `conv3`, `downsample.0` (the next of a Sequential), or anything else. */
function partnerName(conv: string): string {
  if (/(^|\.)conv\d*$/.test(conv)) return conv.replace(/conv(\d*)$/, 'bn$1');
  const position = /^(.*\.)?(\d+)$/.exec(conv);
  return position ? `${position[1] ?? ''}${Number(position[2]) + 1}` : `${conv}.bn`;
}

export class GraphBuilder {
  /** The image: where building starts. */
  readonly input: GraphNode;
  private readonly nodes: GraphNode[] = [];
  private readonly params: ParamSpec[] = [];
  private readonly buffers: BufferSpec[] = [];
  private readonly names = new Set<string>();
  private prefix = '';

  /**
   * @param name the network's name, for messages and reports
   * @param imageShape channels, height, width of one image
   */
  constructor(
    private readonly name: string,
    private readonly imageShape: ImageShape,
  ) {
    if (imageShape.length !== 3 || imageShape.some((size) => !Number.isInteger(size) || size < 1)) {
      throw new UsageError(
        `[graph ${name}] expected an image shape of three whole numbers >= 1 (channels, height, width), got ${showShape(imageShape)}.`,
      );
    }
    this.input = this.push({ op: 'input', id: 0, name: this.take('input') });
  }

  /** Prefixes the names of all that `build` adds: `scope('layer1', …)` inside which `conv1` is `layer1.conv1`. */
  scope<T>(name: string, build: () => T): T {
    const outer = this.prefix;
    this.prefix = `${outer}${name}.`;
    try {
      return build();
    } finally {
      this.prefix = outer;
    }
  }

  /** Convolution without bias; weight (out, in, kh, kw). */
  conv(x: GraphNode, options: ConvOptions): GraphNode {
    const { out, kernel, stride = 1 } = options;
    const [kh, kw] = typeof kernel === 'number' ? [kernel, kernel] : kernel;
    const name = this.nodeName('conv2d', options.name);
    const node = { op: 'conv2d', id: this.nodes.length, name } as const;
    this.requireSizes(node, { out, kernel: Math.min(kh, kw) });
    if (options.padding === undefined && (kh !== kw || kh % 2 === 0)) {
      throw new UsageError(
        `${at(node)} no padding keeps the size under a ${kh}x${kw} kernel; give \`padding\` yourself.`,
      );
    }
    const padding = options.padding ?? (kh - 1) / 2;
    const input = this.use(node, x);
    const weight = this.param(name, 'weight', 'conv', [out, x.shape[0], kh, kw]);
    return this.push({ ...node, input, kernel: [kh, kw], stride, padding, weight });
  }

  batchNorm(x: GraphNode, options: BatchNormOptions = {}): GraphNode {
    const name = this.nodeName('batch_norm', options.name);
    const node = { op: 'batch_norm', id: this.nodes.length, name } as const;
    const input = this.use(node, x);
    const channels = x.shape[0];
    return this.push({
      ...node,
      input,
      epsilon: options.epsilon ?? 1e-5,
      momentum: options.momentum ?? 0.1,
      gamma: this.param(name, 'weight', 'gamma', [channels]),
      beta: this.param(name, 'bias', 'beta', [channels]),
      runningMean: this.buffers.push({ name: `${name}.running_mean`, numel: channels }) - 1,
      runningVar: this.buffers.push({ name: `${name}.running_var`, numel: channels }) - 1,
    });
  }

  relu(x: GraphNode, options: NameOption = {}): GraphNode {
    const node = { op: 'relu', id: this.nodes.length, name: this.nodeName('relu', options.name) } as const;
    return this.push({ ...node, input: this.use(node, x) });
  }

  /** Sum of two tensors of equal shape. */
  add(a: GraphNode, b: GraphNode, options: NameOption = {}): GraphNode {
    const node = { op: 'add', id: this.nodes.length, name: this.nodeName('add', options.name) } as const;
    return this.push({ ...node, inputs: [this.use(node, a), this.use(node, b)] });
  }

  /** Maximum over windows; padding (default 0) never wins. */
  maxPool(x: GraphNode, options: PoolOptions & { readonly padding?: number }): GraphNode {
    const { kernel, stride = kernel, padding = 0 } = options;
    const node = {
      op: 'max_pool',
      id: this.nodes.length,
      name: this.nodeName('max_pool', options.name),
    } as const;
    return this.push({ ...node, input: this.use(node, x), kernel, stride, padding });
  }

  /** Mean over windows, without padding. */
  avgPool(x: GraphNode, options: PoolOptions): GraphNode {
    const { kernel, stride = kernel } = options;
    const node = {
      op: 'avg_pool',
      id: this.nodes.length,
      name: this.nodeName('avg_pool', options.name),
    } as const;
    return this.push({ ...node, input: this.use(node, x), kernel, stride });
  }

  /** Mean of each channel: (C, H, W) → (C, 1, 1). */
  globalAvgPool(x: GraphNode, options: NameOption = {}): GraphNode {
    const name = this.nodeName('global_avg_pool', options.name);
    const node = { op: 'global_avg_pool', id: this.nodes.length, name } as const;
    return this.push({ ...node, input: this.use(node, x) });
  }

  /** Fully connected layer; weight (out, in). Its input is read flat, C·H·W features in NCHW order. */
  linear(x: GraphNode, options: LinearOptions): GraphNode {
    const name = this.nodeName('linear', options.name);
    const node = { op: 'linear', id: this.nodes.length, name } as const;
    this.requireSizes(node, { out: options.out });
    const input = this.use(node, x);
    const features = x.shape[0] * x.shape[1] * x.shape[2];
    const weight = this.param(name, 'weight', 'linear', [options.out, features]);
    const bias = options.bias === false ? null : this.param(name, 'bias', 'bias', [options.out]);
    return this.push({ ...node, input, weight, bias });
  }

  convBn(x: GraphNode, { bn, ...options }: ConvBnOptions): GraphNode {
    const conv = this.conv(x, options);
    return this.batchNorm(conv, { name: bn ?? partnerName(conv.name.slice(this.prefix.length)) });
  }

  convBnRelu(x: GraphNode, options: ConvBnOptions): GraphNode {
    return this.relu(this.convBn(x, options));
  }

  /**
   * The finished graph, whose output is `logits`, a (classes, 1, 1) tensor.
   * @throws {UsageError} when something was built that does not lead to the logits.
   */
  build(logits: GraphNode): Graph {
    this.use({ op: 'graph', name: this.name }, logits);
    const last = this.nodes.at(-1)!;
    if (last !== logits) {
      throw new UsageError(
        `[graph ${this.name}] ${last.name} was built after the logits (${logits.name}) and leads nowhere. Leave it out, or build the graph from it.`,
      );
    }
    const graph: Graph = {
      name: this.name,
      nodes: [...this.nodes],
      params: [...this.params],
      buffers: [...this.buffers],
      input: this.imageShape,
      classes: logits.shape[0],
    };
    validateGraph(graph);
    return graph;
  }

  /** The name, prefixed, or the next free one of its kind. */
  private nodeName(op: GraphNode['op'], name: string | undefined): string {
    if (name !== undefined) return this.take(`${this.prefix}${name}`);
    for (let number = 1; ; number++) {
      const candidate = `${this.prefix}${autoName[op]}${number}`;
      if (!this.names.has(candidate)) return this.take(candidate);
    }
  }

  private take(name: string): string {
    if (this.names.has(name)) {
      throw new UsageError(
        `[graph ${this.name}] two nodes are called "${name}". Give one of them another name.`,
      );
    }
    this.names.add(name);
    return name;
  }

  /** Index of `x`, which must be a node of this builder. */
  private use(node: { readonly op: string; readonly name: string }, x: GraphNode): number {
    if (this.nodes[x.id] !== x) {
      throw new UsageError(`${at(node)} got "${x.name}", a node of another builder.`);
    }
    return x.id;
  }

  private requireSizes(
    node: { readonly op: string; readonly name: string },
    sizes: Record<string, number>,
  ): void {
    for (const [what, value] of Object.entries(sizes)) {
      if (!Number.isInteger(value) || value < 1) {
        throw new UsageError(`${at(node)} expected \`${what}\` to be a whole number >= 1, got ${value}.`);
      }
    }
  }

  private param(module: string, member: string, kind: ParamKind, shape: readonly number[]): number {
    return (
      this.params.push({
        name: `${module}.${member}`,
        kind,
        shape,
        numel: shape.reduce((product, size) => product * size, 1),
        prunable: kind === 'conv' || kind === 'linear',
        node: this.nodes.length,
      }) - 1
    );
  }

  private push(node: UnshapedNode): GraphNode {
    const shape = inferShape(node, { nodes: this.nodes, params: this.params, input: this.imageShape });
    const shaped = { ...node, shape } as GraphNode;
    this.nodes.push(shaped);
    return shaped;
  }
}

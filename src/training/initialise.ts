/**
 * Initial weights by family (SPEC 1.6), drawn dense and masked afterwards, without rescaling for density unless asked.
 * One stream of draws a parameter, keyed by (seed, parameter): the same weights on every machine.
 */
import type { Graph, ParamSpec } from '../graph/types.js';
import { type DrawKey, randomNormals, randomUniforms } from '../random.js';

/** The families of SPEC 1.6, and `xavier`: the copy that the paper's CIFAR code scores for SNIP (SPEC 2.5). */
export type InitialisationScheme = 'cifar-resnet' | 'vgg' | 'imagenet' | 'xavier';

export interface InitialisationOptions {
  readonly scheme: InitialisationScheme;
  readonly seed: number;
  /** Fan of the Kaiming convolutions; 'auto' (default): the family's (fan-in; VGG fan-out). */
  readonly fan?: 'auto' | 'in' | 'out';
  /**
   * Multiplies a prunable layer's fan: its density, where the variance should make up for pruned inputs (the paper's
   * opt-in `--scaled`, SPEC 1.6). Default: 1 for every layer.
   */
  readonly fanScale?: (param: ParamSpec, index: number) => number;
}

/** Inputs and outputs that one unit of a weight (O, I, …taps) sees. */
export function fans(shape: readonly number[]): { fanIn: number; fanOut: number } {
  const [outputs = 1, inputs = 1, ...taps] = shape;
  const positions = taps.reduce((a, b) => a * b, 1);
  return { fanIn: inputs * positions, fanOut: outputs * positions };
}

/** PyTorch's default for linear layers: U(±1/√fan_in). */
function defaultUniform(count: number, fanIn: number, draw: DrawKey): Float32Array {
  const bound = 1 / Math.sqrt(fanIn);
  return randomUniforms(count, -bound, bound, draw);
}

/** Draws the initial values of every parameter: dense, row-major, fp32, by name. */
export function initialWeights(graph: Graph, options: InitialisationOptions): Map<string, Float32Array> {
  return new Map(
    graph.params.map((param, index) => [param.name, initialValues(graph, param, index, options)]),
  );
}

function initialValues(
  graph: Graph,
  param: ParamSpec,
  index: number,
  { scheme, seed, fan = 'auto', fanScale = () => 1 }: InitialisationOptions,
): Float32Array {
  const { kind, numel, shape } = param;
  if (kind === 'gamma') return new Float32Array(numel).fill(1);
  if (kind === 'beta') return new Float32Array(numel);
  const draw: DrawKey = {
    seed,
    purpose: scheme === 'xavier' ? 'saliencyWeights' : 'initialWeights',
    index,
  };
  if (kind === 'bias') {
    if (scheme === 'vgg' || scheme === 'xavier') return new Float32Array(numel);
    const weight = graph.params.find(({ node, kind }) => node === param.node && kind === 'linear')!;
    return defaultUniform(numel, fans(weight.shape).fanIn, draw);
  }
  const { fanIn, fanOut } = fans(shape);
  if (scheme === 'xavier') return randomNormals(numel, Math.sqrt(2 / (fanIn + fanOut)), draw);
  if (kind === 'linear' && scheme === 'vgg') return randomNormals(numel, 0.01, draw);
  if (kind === 'linear' && scheme === 'imagenet') return defaultUniform(numel, fanIn, draw);
  const outward = fan === 'out' || (fan === 'auto' && scheme === 'vgg');
  const scaled = (kind === 'conv' && outward ? fanOut : fanIn) * fanScale(param, index);
  // A layer that keeps nothing has no variance to choose.
  return scaled > 0 ? randomNormals(numel, Math.sqrt(2 / scaled), draw) : new Float32Array(numel);
}

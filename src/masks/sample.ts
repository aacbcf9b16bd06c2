/**
 * Drawing masks: the only place where pruning is random (SPEC 2.0). One draw a parameter, keyed by (mask seed,
 * parameter), so a layer's mask depends on no other layer and on no thread count.
 *
 * Granularity: `weight` (the paper) draws each weight; `filter` draws whole output channels, whose batch norm and bias
 * go with them; `block:OxI` draws blocks of O output × I input channels, all taps of a block together.
 */
import { ConfigError } from '../errors.js';
import type { Graph, ParamSpec } from '../graph/types.js';
import { bernoulliBits, type DrawKey, exactBits } from '../random.js';
import { countBits, type Mask } from './mask.js';

export type Sampler = 'bernoulli' | 'exact';
export type Granularity = 'weight' | 'filter' | `block:${number}x${number}`;

export interface SampleOptions {
  readonly graph: Graph;
  /** One per prunable layer, in registration order (`prunableLayers`), each in [0, 1]. */
  readonly densities: readonly number[];
  /** Default 'bernoulli': each unit kept alone with probability p. 'exact': floor(p·units + 0.5) of them. */
  readonly sampler?: Sampler;
  /** Default 'weight'. */
  readonly granularity?: Granularity;
  readonly seed: number;
}

/** Units drawn together: a grid of `rows` × `columns`, each covering `height` outputs × `width` inputs × all taps. */
interface Grid {
  readonly rows: number;
  readonly columns: number;
  readonly height: number;
  readonly width: number;
}

function parseBlock(granularity: string): { height: number; width: number } {
  const match = /^block:([1-9]\d*)x([1-9]\d*)$/.exec(granularity);
  if (!match) {
    throw new ConfigError(`--granularity: expected weight, filter or block:OxI, got "${granularity}".`);
  }
  return { height: Number(match[1]), width: Number(match[2]) };
}

function drawUnits(units: number, density: number, sampler: Sampler, draw: DrawKey): Uint8Array {
  if (sampler === 'bernoulli') return bernoulliBits(units, density, draw).bits;
  return exactBits(units, Math.min(units, Math.floor(density * units + 0.5)), draw);
}

const toMask = (shape: readonly number[], numel: number, bits: Uint8Array): Mask => ({
  shape,
  numel,
  nnz: countBits(bits),
  bits,
});

/** Spreads kept grid units over the weights they cover. */
function expand(param: ParamSpec, grid: Grid, kept: Uint8Array): Mask {
  const [outputs = 1, inputs = 1, ...taps] = param.shape;
  const perInput = taps.reduce((a, b) => a * b, 1);
  const bits = new Uint8Array(Math.ceil(param.numel / 8));
  for (let output = 0; output < outputs; output++) {
    const row = Math.floor(output / grid.height) * grid.columns;
    for (let input = 0; input < inputs; input++) {
      const unit = row + Math.floor(input / grid.width);
      if (!((kept[unit >> 3]! >> (unit & 7)) & 1)) continue;
      const first = (output * inputs + input) * perInput;
      for (let i = first; i < first + perInput; i++) bits[i >> 3]! |= 1 << (i & 7);
    }
  }
  return toMask(param.shape, param.numel, bits);
}

/** Parameters that belong to the output channels of `param`'s layer: its bias, or the batch norm right after it. */
function companions(graph: Graph, param: ParamSpec): number[] {
  const layer = graph.nodes[param.node]!;
  const partners: number[] = [];
  if (layer.op === 'linear' && layer.bias !== null) partners.push(layer.bias);
  for (const node of graph.nodes) {
    if (node.op === 'batch_norm' && node.input === layer.id) partners.push(node.gamma, node.beta);
  }
  return partners;
}

/**
 * Draws one mask a parameter of the graph: null = every element kept. Density 1 gives null.
 * The network's last layer has no filters to spare (its outputs are the classes), so under `filter` it is drawn by
 * weight (docs/decisions/0030-filter-masks.md).
 * @throws {ConfigError} when a density is not in [0, 1], their number is wrong, or the granularity is unknown.
 */
export function sampleMasks(options: SampleOptions): (Mask | null)[] {
  const { graph, densities, sampler = 'bernoulli', granularity = 'weight', seed } = options;
  const prunable = graph.params.flatMap((param, index) => (param.prunable ? [index] : []));
  if (densities.length !== prunable.length) {
    throw new ConfigError(
      `[masks] expected ${prunable.length} densities, one per prunable layer of ${graph.name}, got ${densities.length}.`,
    );
  }
  const block = granularity === 'weight' || granularity === 'filter' ? null : parseBlock(granularity);
  const masks: (Mask | null)[] = graph.params.map(() => null);
  const last = prunable.at(-1);
  for (const [layer, index] of prunable.entries()) {
    const param = graph.params[index]!;
    const density = densities[layer]!;
    if (!(density >= 0 && density <= 1)) {
      throw new ConfigError(`[masks] ${param.name}: expected a density in [0, 1], got ${density}.`);
    }
    if (density === 1) continue;
    const draw: DrawKey = { seed, purpose: 'mask', index };
    const [outputs = 1, inputs = 1] = param.shape;
    if (granularity === 'filter' && index !== last) {
      const kept = drawUnits(outputs, density, sampler, draw);
      masks[index] = expand(param, { rows: outputs, columns: 1, height: 1, width: inputs }, kept);
      for (const partner of companions(graph, param)) {
        masks[partner] = toMask([outputs], outputs, kept);
      }
    } else if (block) {
      const grid = {
        rows: Math.ceil(outputs / block.height),
        columns: Math.ceil(inputs / block.width),
        ...block,
      };
      masks[index] = expand(param, grid, drawUnits(grid.rows * grid.columns, density, sampler, draw));
    } else {
      masks[index] = toMask(param.shape, param.numel, drawUnits(param.numel, density, sampler, draw));
    }
  }
  return masks;
}

/** A layer that a mask leaves without weights, or with outputs that no weight reaches. */
export interface DegenerateLayer {
  readonly name: string;
  readonly nnz: number;
  /** Outputs without a kept weight. */
  readonly emptyOutputs: number;
  readonly outputs: number;
}

/** Layers with nnz 0 or empty outputs: they work, and users should know (SPEC 8, trap 7). */
export function degenerateLayers(graph: Graph, masks: readonly (Mask | null)[]): DegenerateLayer[] {
  return graph.params.flatMap((param, index) => {
    const mask = masks[index];
    if (!mask || !param.prunable) return [];
    const outputs = param.shape[0]!;
    const perOutput = param.numel / outputs;
    let emptyOutputs = 0;
    for (let output = 0; output < outputs; output++) {
      const end = (output + 1) * perOutput;
      let i = output * perOutput;
      while (i < end && !((mask.bits[i >> 3]! >> (i & 7)) & 1)) {
        i += (i & 7) === 0 && mask.bits[i >> 3] === 0 ? 8 : 1;
      }
      if (i >= end) emptyOutputs++;
    }
    return emptyOutputs > 0 ? [{ name: param.name, nnz: mask.nnz, emptyOutputs, outputs }] : [];
  });
}

/**
 * From a name to a network. Bare `resnet18|34|50|101` are ImageNet's; every other `resnetD` is CIFAR's at width 16,
 * and `resnetD-W` is always CIFAR's (docs/decisions/0013-model-names.md). Named models are data: models/*.ts.
 */
import { models } from '../../models/index.js';
import { UsageError } from '../errors.js';
import { type Graph, type ImageShape, macCount, paramCount } from '../graph/index.js';
import { unknownName } from '../suggest.js';
import { buildCifarResNet, buildResNet } from './resnet.js';
import type { CifarResNetSpec, Head, ModelSpec } from './spec.js';
import { buildVgg } from './vgg.js';

export type { ModelSpec } from './spec.js';

export interface Model {
  /** As asked for: `resnet20`, `resnet20-24`, `wrn50`. */
  readonly name: string;
  readonly graph: Graph;
  /** The data set it is made for. */
  readonly dataset: 'cifar10' | 'imagenet';
  /** The training recipe it takes by default (SPEC 3.1). */
  readonly recipe: 'cifar' | 'imagenet';
  /** The initialisation of its family (SPEC 1.6). */
  readonly initialisation: 'cifar-resnet' | 'vgg' | 'imagenet';
  /** Every parameter, batch norm and biases included. */
  readonly params: number;
  /** Multiply-accumulates of one image. */
  readonly macs: number;
}

export interface ModelOptions {
  /** Outputs of the head; default: the model's own (10 or 1000). */
  readonly classes?: number | undefined;
  /** Side of the square input images; default: the model's own (32 or 224). */
  readonly imageSize?: number | undefined;
}

/** A row of `rp models`: the network with its own number of classes and image size. */
export interface ModelListing {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly description: string;
  readonly dataset: Model['dataset'];
  readonly input: ImageShape;
  readonly classes: number;
  readonly params: number;
  readonly macs: number;
}

const DEFAULT_WIDTH = 16;
/** How the open-ended family is listed beside the names. */
const cifarPattern = 'resnetD-W (CIFAR, depth D = 6n + 2, width W)';

const family = {
  'cifar-resnet': { dataset: 'cifar10', recipe: 'cifar', initialisation: 'cifar-resnet' },
  vgg: { dataset: 'cifar10', recipe: 'cifar', initialisation: 'vgg' },
  resnet: { dataset: 'imagenet', recipe: 'imagenet', initialisation: 'imagenet' },
} as const;

/** The named models. CIFAR ResNets of any other depth and width exist too, as `resnetD-W`. */
export function modelNames(): ModelListing[] {
  return Object.entries(models).map(([name, spec]) => {
    const { description, input, classes, params, macs, aliases = [] } = spec;
    return { name, aliases, description, dataset: family[spec.family].dataset, input, classes, params, macs };
  });
}

/** Depth and width of a CIFAR ResNet that no model file names; its counts follow from SPEC 1.2. */
function cifarResNet(name: string, depth: number, width: number): Pick<CifarResNetSpec, 'depth' | 'width'> {
  if (depth < 8 || (depth - 2) % 6 !== 0) {
    throw new UsageError(
      `--arch: expected a CIFAR ResNet of depth 6n + 2 (20, 32, 44, 56, 110, …), got "${name}". ImageNet's are resnet18, resnet34, resnet50 and resnet101, without a width.`,
    );
  }
  if (width < 1) throw new UsageError(`--arch: expected a width >= 1, got "${name}".`);
  return { depth, width };
}

function findSpec(name: string): ModelSpec {
  const named = Object.entries(models).find(([key, { aliases }]) => key === name || aliases?.includes(name));
  if (named) return named[1];
  const cifar = /^resnet(\d+)(?:-(\d+))?$/.exec(name);
  if (!cifar) throw unknownName('--arch', 'network', name, [...Object.keys(models), cifarPattern]);
  const figures = cifarResNet(name, Number(cifar[1]), Number(cifar[2] ?? DEFAULT_WIDTH));
  return { ...models.resnet20!, ...figures, family: 'cifar-resnet' } as CifarResNetSpec;
}

function buildGraph(spec: ModelSpec, head: Head): Graph {
  switch (spec.family) {
    case 'cifar-resnet':
      return buildCifarResNet(spec, head);
    case 'resnet':
      return buildResNet(spec, head);
    case 'vgg':
      return buildVgg(spec, head);
  }
}

function requireWhole(flag: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) {
    throw new UsageError(`${flag}: expected a whole number >= ${least}, got ${value}.`);
  }
}

/**
 * Builds a network by name.
 * @throws {UsageError} for unknown names (with a suggestion) and for figures no network can have.
 */
export function buildModel(name: string, options: ModelOptions = {}): Model {
  const spec = findSpec(name);
  const { classes = spec.classes, imageSize } = options;
  requireWhole('--classes', classes, 2);
  if (imageSize !== undefined) requireWhole('--image-size', imageSize, 8);
  const input: ImageShape = imageSize === undefined ? spec.input : [spec.input[0], imageSize, imageSize];
  const graph = buildGraph(spec, { name, input, classes });
  return { name, graph, ...family[spec.family], params: paramCount(graph), macs: macCount(graph) };
}

/** What a model file (models/*.ts) says: a family, its figures, and the counts that prove them. */
import type { ImageShape } from '../graph/index.js';

interface SpecBase {
  /** One line for `rp models`, with the paper. */
  readonly description: string;
  /** Other names people type. */
  readonly aliases?: readonly string[];
  readonly input: ImageShape;
  readonly classes: number;
  /** Every parameter, batch norm and bias included (SPEC 1.5); asserted in test/conformance/models.test.ts. */
  readonly params: number;
  /** Multiply-accumulates of one image, convolutions and linear layers; asserted there too. */
  readonly macs: number;
}

/** He et al. 2016 for 32x32 images: three segments of basic blocks (SPEC 1.2). */
export interface CifarResNetSpec extends SpecBase {
  readonly family: 'cifar-resnet';
  /** 6n + 2: n blocks a segment. */
  readonly depth: number;
  /** Channels of the first segment; the others have twice and four times as many. */
  readonly width: number;
}

/** He et al. 2016 for 224x224 images: four stages of 64, 128, 256, 512 planes (SPEC 1.4). */
export interface ResNetSpec extends SpecBase {
  readonly family: 'resnet';
  readonly block: 'basic' | 'bottleneck';
  /** Blocks of each stage. */
  readonly depths: readonly [number, number, number, number];
  /** Factor on the inner width of a bottleneck; default 1. */
  readonly bottleneckWidth?: number;
}

/** Simonyan & Zisserman 2015 with batch norm and one linear layer, for 32x32 images (SPEC 1.3). */
export interface VggSpec extends SpecBase {
  readonly family: 'vgg';
  /** Convolution widths in order; 'M' is a 2x2 max-pool. */
  readonly layers: readonly (number | 'M')[];
}

export type ModelSpec = CifarResNetSpec | ResNetSpec | VggSpec;

/** What the caller may set: the head's classes and the image. */
export interface Head {
  readonly name: string;
  readonly input: ImageShape;
  readonly classes: number;
}

import type { ImageShape } from '../graph/types.js';
import type { ImageSet } from './image-set.js';
import type { Augmentation, Normalisation } from './specs.js';

/** A data set, open: two splits in memory, and how images become a network's input. */
export interface Dataset extends Normalisation {
  /** `cifar10`, `cifar100`, `fashion-mnist` or `synthetic`; an own name for an own set. */
  readonly name: string;
  /** One or two sentences for the user: which data this is, and what its accuracies are worth. */
  readonly description: string;
  /** Built in, generated: accuracies mean nothing outside it. */
  readonly synthetic: boolean;
  readonly classes: number;
  /** What the network reads: (C, H, W) after cropping. */
  readonly imageShape: ImageShape;
  readonly augmentation: Augmentation;
  readonly train: ImageSet;
  readonly test: ImageSet;
}

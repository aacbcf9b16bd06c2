import type { VggSpec } from '../src/architectures/spec.js';

/** VGG-11 with batch norm for CIFAR: one linear layer. Simonyan & Zisserman 2015, table 1. */
export default {
  family: 'vgg',
  description: 'VGG-11 with batch norm for CIFAR (Simonyan & Zisserman 2015)',
  layers: [64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512],
  input: [3, 32, 32],
  classes: 10,
  params: 9_228_362,
  macs: 152_769_536,
} satisfies VggSpec;

import type { VggSpec } from '../src/architectures/spec.js';

/** VGG-16 with batch norm for CIFAR: one linear layer. Simonyan & Zisserman 2015, table 1. */
export default {
  family: 'vgg',
  description: 'VGG-16 with batch norm for CIFAR (Simonyan & Zisserman 2015)',
  layers: [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512],
  input: [3, 32, 32],
  classes: 10,
  params: 14_724_042,
  macs: 313_201_664,
} satisfies VggSpec;

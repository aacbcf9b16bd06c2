import type { ResNetSpec } from '../src/architectures/spec.js';

/** ResNet-101 for ImageNet, torchvision's "v1.5". He et al. 2016, table 1. */
export default {
  family: 'resnet',
  description: 'ResNet-101 for ImageNet, bottleneck blocks (He et al. 2016)',
  block: 'bottleneck',
  depths: [3, 4, 23, 3],
  input: [3, 224, 224],
  classes: 1000,
  params: 44_549_160,
  macs: 7_801_405_440,
} satisfies ResNetSpec;

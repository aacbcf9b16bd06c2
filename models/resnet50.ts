import type { ResNetSpec } from '../src/architectures/spec.js';

/** ResNet-50 for ImageNet, torchvision's "v1.5". He et al. 2016, table 1. */
export default {
  family: 'resnet',
  description: 'ResNet-50 for ImageNet, bottleneck blocks (He et al. 2016)',
  block: 'bottleneck',
  depths: [3, 4, 6, 3],
  input: [3, 224, 224],
  classes: 1000,
  params: 25_557_032,
  macs: 4_089_184_256,
} satisfies ResNetSpec;

import type { ResNetSpec } from '../src/architectures/spec.js';

/** ResNet-18 for ImageNet, torchvision's "v1.5". He et al. 2016, table 1. */
export default {
  family: 'resnet',
  description: 'ResNet-18 for ImageNet, basic blocks (He et al. 2016)',
  block: 'basic',
  depths: [2, 2, 2, 2],
  input: [3, 224, 224],
  classes: 1000,
  params: 11_689_512,
  macs: 1_814_073_344,
} satisfies ResNetSpec;

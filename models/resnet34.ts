import type { ResNetSpec } from '../src/architectures/spec.js';

/** ResNet-34 for ImageNet, torchvision's "v1.5". He et al. 2016, table 1. */
export default {
  family: 'resnet',
  description: 'ResNet-34 for ImageNet, basic blocks (He et al. 2016)',
  block: 'basic',
  depths: [3, 4, 6, 3],
  input: [3, 224, 224],
  classes: 1000,
  params: 21_797_672,
  macs: 3_663_761_408,
} satisfies ResNetSpec;

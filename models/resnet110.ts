import type { CifarResNetSpec } from '../src/architectures/spec.js';

/** ResNet-110 for CIFAR, width 16. He et al. 2016, section 4.2, with projection shortcuts. */
export default {
  family: 'cifar-resnet',
  description: 'ResNet-110 for CIFAR, width 16 (He et al. 2016)',
  depth: 110,
  width: 16,
  input: [3, 32, 32],
  classes: 10,
  params: 1_730_714,
  macs: 253_149_824,
} satisfies CifarResNetSpec;

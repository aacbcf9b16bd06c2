import type { CifarResNetSpec } from '../src/architectures/spec.js';

/** ResNet-56 for CIFAR, width 16. He et al. 2016, section 4.2, with projection shortcuts. */
export default {
  family: 'cifar-resnet',
  description: 'ResNet-56 for CIFAR, width 16 (He et al. 2016)',
  depth: 56,
  width: 16,
  input: [3, 32, 32],
  classes: 10,
  params: 855_770,
  macs: 125_747_840,
} satisfies CifarResNetSpec;

import type { CifarResNetSpec } from '../src/architectures/spec.js';

/** ResNet-44 for CIFAR, width 16. He et al. 2016, section 4.2, with projection shortcuts. */
export default {
  family: 'cifar-resnet',
  description: 'ResNet-44 for CIFAR, width 16 (He et al. 2016)',
  depth: 44,
  width: 16,
  input: [3, 32, 32],
  classes: 10,
  params: 661_338,
  macs: 97_436_288,
} satisfies CifarResNetSpec;

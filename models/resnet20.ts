import type { CifarResNetSpec } from '../src/architectures/spec.js';

/** ResNet-20 for CIFAR, width 16. He et al. 2016, section 4.2, with projection shortcuts. */
export default {
  family: 'cifar-resnet',
  description: 'ResNet-20 for CIFAR, width 16 (He et al. 2016)',
  depth: 20,
  width: 16,
  input: [3, 32, 32],
  classes: 10,
  params: 272_474,
  macs: 40_813_184,
} satisfies CifarResNetSpec;

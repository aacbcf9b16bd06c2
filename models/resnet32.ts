import type { CifarResNetSpec } from '../src/architectures/spec.js';

/** ResNet-32 for CIFAR, width 16. He et al. 2016, section 4.2, with projection shortcuts. */
export default {
  family: 'cifar-resnet',
  description: 'ResNet-32 for CIFAR, width 16 (He et al. 2016)',
  depth: 32,
  width: 16,
  input: [3, 32, 32],
  classes: 10,
  params: 466_906,
  macs: 69_124_736,
} satisfies CifarResNetSpec;

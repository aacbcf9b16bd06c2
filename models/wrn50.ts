import type { ResNetSpec } from '../src/architectures/spec.js';

/** Wide ResNet-50-2: bottlenecks twice as wide inside. Zagoruyko & Komodakis 2016. The paper's largest network. */
export default {
  family: 'resnet',
  description: 'Wide ResNet-50-2 for ImageNet (Zagoruyko & Komodakis 2016)',
  aliases: ['wrn50_2', 'wrn50-2', 'wide_resnet50_2'],
  block: 'bottleneck',
  depths: [3, 4, 6, 3],
  bottleneckWidth: 2,
  input: [3, 224, 224],
  classes: 1000,
  params: 68_883_240,
  macs: 11_398_021_120,
} satisfies ResNetSpec;

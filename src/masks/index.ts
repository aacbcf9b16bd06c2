/** Masks: drawing them, packing values by them, naming them by a hash. */
export { maskHash } from './hash.js';
export { countBits, isKept, type Mask, packValues, unpackValues } from './mask.js';
export {
  type DegenerateLayer,
  degenerateLayers,
  type Granularity,
  type SampleOptions,
  type Sampler,
  sampleMasks,
} from './sample.js';

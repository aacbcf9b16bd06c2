/** The graph: its types, its builder, its checks. */
export {
  type BatchNormOptions,
  type ConvBnOptions,
  type ConvOptions,
  GraphBuilder,
  type LinearOptions,
  type PoolOptions,
} from './builder.js';
export { macCount, paramCount, prunableLayers } from './layers.js';
export type * from './types.js';
export { validateGraph } from './validate.js';

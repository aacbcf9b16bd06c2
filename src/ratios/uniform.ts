import type { ShapePolicy } from './policy.js';

/** The same density everywhere: first convolution, shortcuts and classifier too (SPEC 2.1). */
export const uniform: ShapePolicy = {
  name: 'uniform',
  description: 'the same density in every layer',
  needs: 'shapes',
  densities: (layers, density) => layers.map(() => density),
};

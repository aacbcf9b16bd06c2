import type { ShapePolicy } from './policy.js';

/** Every weight: the reference that sparse networks are compared with. */
export const dense: ShapePolicy = {
  name: 'dense',
  description: 'every weight kept: the reference',
  needs: 'shapes',
  breaks: { budget: 'it is the network that the others are pruned from, whatever the budget' },
  densities: (layers) => layers.map(() => 1),
};

import { fillBudget } from './budget.js';
import type { ShapePolicy } from './policy.js';

/** Erdős–Rényi: density ∝ (out + in) / (out · in), kernel sizes ignored. Mocanu et al. 2018; SPEC 2.2. */
export const er: ShapePolicy = {
  name: 'er',
  description: 'Erdős–Rényi: density ∝ (out + in) / (out · in) (Mocanu et al. 2018)',
  needs: 'shapes',
  densities: (layers, density) =>
    fillBudget(layers, density, ({ shape: [out, inputs] }) => (out! + inputs!) / (out! * inputs!)),
};

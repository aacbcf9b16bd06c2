import { fillBudget } from './budget.js';
import type { ShapePolicy } from './policy.js';

/** Erdős–Rényi-Kernel: density ∝ (Σ dims) / (Π dims). Evci et al. 2020, section 3; SPEC 2.2. */
export const erk: ShapePolicy = {
  name: 'erk',
  description: 'Erdős–Rényi-Kernel: density ∝ (Σ dims) / (Π dims) (Evci et al. 2020)',
  needs: 'shapes',
  densities: (layers, density) =>
    fillBudget(
      layers,
      density,
      ({ shape }) =>
        shape.reduce((sum, size) => sum + size, 0) / shape.reduce((product, size) => product * size, 1),
    ),
};

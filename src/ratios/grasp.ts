import type { SaliencyPolicy } from './policy.js';
import { kthLargest } from './select.js';

/**
 * GraSP (Wang et al. 2020): scores −w · Hg, the largest removed. With k = trunc((1−d)·N) the threshold is the k-th
 * largest, and score ≤ threshold is kept: k − 1 weights go, as in the paper's code (SPEC 2.6, 8.5).
 */
export const grasp: SaliencyPolicy = {
  name: 'grasp',
  description:
    'the share of each layer that keeps the gradient flowing, by −weight · Hessian · gradient (Wang et al. 2020)',
  needs: 'saliency',
  criterion: (scores, density) => {
    const total = scores.reduce((sum, { length }) => sum + length, 0);
    const removed = Math.trunc(total * (1 - density));
    return {
      threshold: removed < 1 ? Number.POSITIVE_INFINITY : kthLargest(scores, removed),
      keep: 'at most',
    };
  },
};

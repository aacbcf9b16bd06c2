import { UsageError } from '../errors.js';
import type { SaliencyPolicy } from './policy.js';
import { kthLargest } from './select.js';

/**
 * SNIP (Lee et al. 2019): scores |w · dL/dw|, the k = trunc(d·N) largest over the whole network kept, ties included
 * (score ≥ the k-th largest); a layer's density is its kept share. SPEC 2.5.
 */
export const snip: SaliencyPolicy = {
  name: 'snip',
  description: 'the share of each layer among the largest |weight · gradient| of one batch (Lee et al. 2019)',
  needs: 'saliency',
  criterion: (scores, density) => {
    const total = scores.reduce((sum, { length }) => sum + length, 0);
    const kept = Math.trunc(total * density);
    if (kept < 1) {
      throw new UsageError(
        `--ratio snip: density ${density} keeps none of ${total} weights. Lower the sparsity.`,
      );
    }
    return { threshold: kthLargest(scores, kept), keep: 'at least' };
  },
};

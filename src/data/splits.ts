/** Which images train, and which choose the best checkpoint (SPEC 3.3). Pure. */
import { UsageError } from '../errors.js';
import type { Dataset } from './dataset.js';

export type Protocol = 'final' | 'code';

export interface Splits {
  /** Images [from, to) of the training split that are trained on. */
  readonly train: readonly [from: number, to: number];
  /** Training images held out to choose the best checkpoint, or null: none are. */
  readonly validation: {
    readonly range: readonly [from: number, to: number];
    /** The paper's code validates under the training augmentation. */
    readonly augment: boolean;
  } | null;
}

/**
 * `final`: everything trains, the last epoch counts. `code`, as the paper's code: the last tenth of the training
 * images (CIFAR-10: 45,000 + 5,000) is held out and goes through the training augmentation, which is that of epoch 0
 * at every validation here, so that its noise is the same each time. CIFAR-100 and ImageNet hold nothing out: there
 * the code picks by test accuracy, which this package never does.
 */
export function protocolSplits(dataset: Dataset, protocol: Protocol): Splits {
  const count = dataset.train.count;
  const holdsOut = protocol === 'code' && dataset.name !== 'cifar100' && dataset.imageShape[1] <= 32;
  if (!holdsOut) return { train: [0, count], validation: null };
  const trained = count - Math.floor(count / 10);
  if (trained === count) {
    throw new UsageError(
      `--protocol code: expected at least 10 training images, so that a tenth can be held out, got ${count}.`,
    );
  }
  return { train: [0, trained], validation: { range: [trained, count], augment: true } };
}

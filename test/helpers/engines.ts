/** Sessions for tests that every engine must pass, and what SPEC 9 allows each of them. */

import { createSession } from '../../src/engine/create-session.js';
import type { EngineName, Session, SessionOptions, Values } from '../../src/engine/session.js';
import { packValues } from '../../src/masks/mask.js';

export const engines: readonly EngineName[] = ['reference', 'cpu'];

export interface Tolerance {
  /** Relative, of losses. */
  readonly loss: number;
  /** Relative, of norms, sums over tensors, and single log-probabilities. */
  readonly norm: number;
  /** Kept weights a layer. */
  readonly count: number;
}

/** SPEC 9; `norm` of float32 is ours: rounding weights and images alone moves WRN-50-2's gradient sums by 5e-4. */
export const tolerances: Record<EngineName, Tolerance> = {
  reference: { loss: 1e-10, norm: 1e-10, count: 0 },
  cpu: { loss: 1e-4, norm: 5e-3, count: 16 },
};

/** A batch or a parameter in the engine's element type. */
export function valuesFor(engine: EngineName, values: Float64Array): Values {
  return engine === 'reference' ? values : Float32Array.from(values);
}

/**
 * Opens a session, gives it dense `weights` (one array a parameter, in order) and fresh running statistics, and
 * disposes of it after `body`. One thread by default: vitest's workers have the cores.
 */
export async function withSession<T>(
  options: SessionOptions,
  weights: readonly Float64Array[],
  body: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await createSession({ threads: 1, ...options });
  try {
    for (const [i, { name }] of options.graph.params.entries()) {
      const kept = packValues(valuesFor(options.engine, weights[i]!), options.masks?.[i] ?? null);
      await session.write('value', name, kept);
    }
    for (const { name, numel } of options.graph.buffers) {
      const start = new Float64Array(numel).fill(name.endsWith('running_var') ? 1 : 0);
      await session.write('running', name, valuesFor(options.engine, start));
    }
    return await body(session);
  } finally {
    await session.dispose();
  }
}

export function l2(values: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  return Math.sqrt(squares);
}

export function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}

/** |got - expected| / |expected|; for quantities that may cancel, relative to `scale` where that is larger. */
export function relative(got: number, expected: number, scale = 0): number {
  return Math.abs(got - expected) / Math.max(Math.abs(expected), scale);
}

/** Log-softmax of (n × classes) logits. */
export function logProbabilities(logits: Values, classes: number): number[][] {
  return Array.from({ length: logits.length / classes }, (_, n) => {
    const row = Array.from(logits.subarray(n * classes, (n + 1) * classes));
    const top = Math.max(...row);
    const logSum = Math.log(sum(row.map((z) => Math.exp(z - top))));
    return row.map((z) => z - top - logSum);
  });
}

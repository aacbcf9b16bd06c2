/** The state of a session, read and written as a whole: what a checkpoint keeps, and what a network starts with. */
import type { Checkpoint, ParamState } from '../checkpoint/checkpoint.js';
import type { Session, Values } from '../engine/session.js';
import type { Graph } from '../graph/types.js';
import { type Mask, packValues } from '../masks/mask.js';

export interface SessionState {
  /** One per graph.params entry. */
  readonly params: readonly ParamState[];
  /** One per graph.buffers entry. */
  readonly buffers: readonly Values[];
}

/** Copies of values, momenta and running statistics. */
export async function readState(session: Session): Promise<SessionState> {
  const { params, buffers } = session.graph;
  return {
    params: await Promise.all(
      params.map(async ({ name }) => ({
        values: await session.read('value', name),
        momentum: await session.read('momentum', name),
      })),
    ),
    buffers: await Promise.all(buffers.map(({ name }) => session.read('running', name))),
  };
}

export async function writeState(session: Session, state: SessionState): Promise<void> {
  const { params, buffers } = session.graph;
  for (const [i, { name }] of params.entries()) {
    await session.write('value', name, state.params[i]!.values);
    await session.write('momentum', name, state.params[i]!.momentum);
  }
  for (const [i, { name }] of buffers.entries()) await session.write('running', name, state.buffers[i]!);
}

/** Values alone, for evaluation: a checkpoint's weights and running statistics. */
export async function writeNetwork(session: Session, { graph, params, buffers }: Checkpoint): Promise<void> {
  for (const [i, { name }] of graph.params.entries()) await session.write('value', name, params[i]!.values);
  for (const [i, { name }] of graph.buffers.entries()) await session.write('running', name, buffers[i]!);
}

/** Writes dense, row-major weights by name into a session with these masks. */
export async function writeWeights(
  session: Session,
  masks: readonly (Mask | null)[],
  weights: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  for (const [i, { name }] of session.graph.params.entries()) {
    await session.write('value', name, packValues(weights.get(name)!, masks[i] ?? null));
  }
}

/** One L2 coefficient per parameter (SPEC 3.1): on all of them, or on those without "bn" in their name. */
export function weightDecays(graph: Graph, weightDecay: number, on: 'all' | 'not-bn'): number[] {
  // By name, as the paper's code: its shortcut batch norms (`downsample.1`) are decayed.
  return graph.params.map(({ name }) => (on === 'not-bn' && name.includes('bn') ? 0 : weightDecay));
}

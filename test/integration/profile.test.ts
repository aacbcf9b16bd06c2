/** Profiles of real sessions: every op of a step, within the time that passed, and without a trace in the results. */
import { describe, expect, it } from 'vitest';
import { profileKinds } from '../../src/bench/profile.js';
import type { ProfileEvent, Session } from '../../src/engine/session.js';
import { GraphBuilder, prunableLayers } from '../../src/graph/index.js';
import { withSession } from '../helpers/engines.js';
import { everyOpGraph, everyOpMasks, everyOpWeights } from '../helpers/every-op.js';
import { hashValues } from '../helpers/golden.js';
import { allValues, tinyBatch, tinyLoader, tinySession } from '../helpers/tiny-session.js';

const graph = everyOpGraph();
const images = Float32Array.from(hashValues(1, 20 * 3 * 9 * 9, 1));
const labels = Int32Array.from({ length: 20 }, (_, i) => i % 5);
const sgd = { lr: 0.01, momentum: 0.9 };

function everyOpSession<T>(body: (session: Session) => Promise<T>): Promise<T> {
  const masks = everyOpMasks(graph);
  return withSession({ graph, engine: 'cpu', masks, batchSize: 20 }, everyOpWeights(graph), body);
}

async function train(session: Session, steps: number): Promise<number[]> {
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) losses.push((await session.step(images, labels, sgd)).loss);
  return losses;
}

async function profiled(
  session: Session,
  steps: number,
): Promise<{ events: ProfileEvent[]; wall: number; losses: number[] }> {
  const start = performance.now(); // the profile's own clock starts later
  await session.startProfile();
  const losses = await train(session, steps);
  const wall = 1000 * (performance.now() - start);
  return { events: await session.stopProfile(), wall, losses };
}

describe('a profile', () => {
  it('has an event for each op of each step', async () => {
    const { events } = await everyOpSession((session) => profiled(session, 3));
    for (const step of [0, 1, 2]) {
      const of = (kind: string) =>
        events.filter((event) => event.step === step && event.kind === kind).map(({ layer }) => layer);
      const weights = prunableLayers(graph).map(({ name }) => name);
      expect(of('conv_forward')).toEqual(weights);
      expect(of('conv_wgrad').sort()).toEqual([...weights].sort());
      expect(of('conv_dgrad').sort()).toEqual(weights.slice(1).sort()); // none for the images
      expect(of('pack')).toEqual(weights);
      const batchNorms = graph.nodes.filter(({ op }) => op === 'batch_norm').map(({ name }) => name);
      expect(of('statistics')).toEqual(batchNorms);
      expect(of('batch_norm_dgrad').sort()).toEqual([...batchNorms].sort());
      expect(of('combine_forward')).toHaveLength(of('combine_sums').length);
      const pools = graph.nodes.filter(({ op }) => op.endsWith('_pool')).map(({ name }) => name);
      expect(of('pool_forward')).toEqual(pools);
      expect(of('pool_backward').sort()).toEqual([...pools].sort());
      for (const kind of ['import', 'loss', 'update']) expect(of(kind)).toEqual([null]);
      for (const kind of ['bias_forward', 'bias_wgrad', 'flatten_forward', 'flatten_backward']) {
        expect(of(kind)).not.toEqual([]);
      }
    }
    expect(new Set(events.map(({ step }) => step))).toEqual(new Set([0, 1, 2]));
    for (const { kind } of events) expect(Object.keys(profileKinds)).toContain(kind);
  });

  it('has none for what max pools make of batch norms and ReLU, nor for gradients of windows side by side', async () => {
    const g = new GraphBuilder('pooled', [3, 9, 9]);
    const x = g.maxPool(g.convBnRelu(g.input, { out: 6, kernel: 3 }), {
      kernel: 2,
      stride: 2,
      name: 'apart',
    });
    const y = g.maxPool(g.convBnRelu(x, { out: 6, kernel: 3 }), {
      kernel: 3,
      stride: 2,
      name: 'overlapping',
    });
    const pooled = g.build(g.linear(g.globalAvgPool(y), { out: 5, name: 'fc' }));
    const options = { graph: pooled, engine: 'cpu', batchSize: 20 } as const;
    const { events } = await withSession(options, everyOpWeights(pooled), (session) => profiled(session, 1));
    const of = (kind: string) => events.filter((event) => event.kind === kind).map(({ layer }) => layer);
    expect(of('combine_forward')).toEqual([]);
    expect(of('pool_forward').slice(0, 2)).toEqual(['apart', 'overlapping']);
    expect(of('pool_backward')).toContain('overlapping');
    expect(of('pool_backward')).not.toContain('apart');
    expect(of('batch_norm_dgrad')).toHaveLength(2);
  });

  it('is in order, without overlap, and adds up to no more than the time that passed', async () => {
    const { events, wall } = await everyOpSession((session) => profiled(session, 5));
    let end = 0;
    for (const { start, duration } of events) {
      expect(duration).toBeGreaterThanOrEqual(0);
      expect(start).toBeGreaterThanOrEqual(end - 1e-6); // start + duration rounds
      end = start + duration;
    }
    const total = events.reduce((sum, { duration }) => sum + duration, 0);
    expect(total).toBeGreaterThan(0);
    expect(total).toBeLessThanOrEqual(wall);
  });

  it('changes no bit of the results', async () => {
    const plain = await everyOpSession(async (session) => [
      await train(session, 4),
      await allValues(session),
    ]);
    const watched = await everyOpSession(async (session) => {
      const { losses } = await profiled(session, 4);
      return [losses, await allValues(session)];
    });
    expect(watched).toEqual(plain);
  });

  it('starts afresh each time, and records nothing while it is off', async () => {
    await everyOpSession(async (session) => {
      const first = await profiled(session, 2);
      await train(session, 1);
      const second = await profiled(session, 2);
      expect(second.events.map(({ kind, layer, step }) => [kind, layer, step])).toEqual(
        first.events.map(({ kind, layer, step }) => [kind, layer, step]),
      );
      expect(second.events[0]!.start).toBeLessThan(second.wall);
      await session.startProfile();
      expect(await session.stopProfile()).toEqual([]);
    });
  });

  it('of run counts its steps, and their checks', async () => {
    const session = await tinySession({ engine: 'cpu' });
    const loader = tinyLoader();
    session.attach(loader);
    await session.startProfile();
    await session.run({ firstStep: 7, steps: 3, lr: 0.01 });
    const events = await session.stopProfile();
    const checks = events.filter(({ kind }) => kind === 'finite_check');
    expect(checks.map(({ step }) => step)).toEqual([0, 1, 2]);
    await session.dispose();
    await loader.dispose();
  });
});

describe('errors', () => {
  it('say that a profile is on already, or that none is', async () => {
    const session = await tinySession({ engine: 'cpu' });
    await expect(session.stopProfile()).rejects.toThrow(
      '[session] expected a profile to be on: call startProfile() first, got none.',
    );
    await session.startProfile();
    await expect(session.startProfile()).rejects.toThrow(
      '[session] expected no profile to be on: call stopProfile() first, got a second startProfile().',
    );
    const { images: tiny, labels: classes } = tinyBatch();
    await session.step(tiny, classes, sgd);
    expect(await session.stopProfile()).not.toEqual([]);
    await session.dispose();
    await expect(session.startProfile()).rejects.toThrow('got a disposed one');
    await expect(session.stopProfile()).rejects.toThrow('got a disposed one');
  });

  it('say which program or engine is missing', async () => {
    const evaluating = await tinySession({ engine: 'cpu', programs: ['eval'] });
    await expect(evaluating.startProfile()).rejects.toThrow(
      "[session] expected a session with program 'train', got one planned for eval.",
    );
    await evaluating.dispose();
    const reference = await tinySession({ engine: 'reference' });
    await expect(reference.startProfile()).rejects.toThrow(
      "[session] expected engine 'cpu', which records its ops, got engine 'reference'.",
    );
    await reference.dispose();
  });
});

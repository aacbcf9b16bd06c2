/**
 * Where the time of a training step goes, from the ops that a session recorded (Session.startProfile): sums by kind of
 * op and by layer, and a trace in Chrome's format for a viewer. GFLOP/s are useful ones: two for each multiply-add of a
 * kept weight, whatever a kernel does beside it.
 */
import type { ProfileEvent, ProfileKind } from '../engine/session.js';
import { type Graph, prunableLayers } from '../graph/index.js';
import type { Mask } from '../masks/index.js';
import { type Spread, spread } from './statistics.js';

type Pass = 'forward' | 'dgrad' | 'wgrad' | 'backward' | 'update';

/** Every kind of op, with the part of a step that it belongs to. */
export const profileKinds: Readonly<Record<ProfileKind, Pass>> = {
  import: 'forward',
  conv_forward: 'forward',
  conv_dgrad: 'dgrad',
  conv_wgrad: 'wgrad',
  bias_forward: 'forward',
  bias_wgrad: 'wgrad',
  border_forward: 'forward',
  border_backward: 'backward',
  statistics: 'forward',
  combine_forward: 'forward',
  combine_sums: 'backward',
  batch_norm_dgrad: 'dgrad',
  gradient_copy: 'backward',
  pool_forward: 'forward',
  pool_backward: 'backward',
  flatten_forward: 'forward',
  flatten_backward: 'backward',
  loss: 'forward',
  finite_check: 'update',
  update: 'update',
  pack: 'update',
};

/** A convolution or linear layer of the profiled network. */
export interface ProfiledLayer {
  /** Of the weight. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly numel: number;
  readonly nnz: number;
  /** Multiply-adds of kept weights, of one pass over one image. */
  readonly macs: number;
}

export interface ProfiledNetwork {
  readonly batchSize: number;
  readonly layers: readonly ProfiledLayer[];
}

export function profiledLayers(graph: Graph, masks: readonly (Mask | null)[]): ProfiledLayer[] {
  return prunableLayers(graph).map(({ name, shape, numel, macs, param }) => {
    const nnz = masks[param]?.nnz ?? numel;
    return { name, shape, numel, nnz, macs: (macs * nnz) / numel };
  });
}

export interface KindTime {
  readonly kind: ProfileKind;
  /** Ops a step. */
  readonly count: number;
  /** Of a step, all its ops of this kind. */
  readonly milliseconds: number;
  /** Of the step's time. */
  readonly share: number;
  /** Convolutions only. */
  readonly gflops?: number;
}

export interface PassTime {
  readonly milliseconds: number;
  readonly share: number;
  readonly gflops: number;
}

export interface LayerTime {
  readonly layer: string;
  readonly shape: readonly number[];
  readonly nnz: number;
  readonly density: number;
  readonly forward: PassTime | null;
  /** Null: none is needed, as in a first layer. */
  readonly dgrad: PassTime | null;
  readonly wgrad: PassTime | null;
  /** Of the step's time, the three together. */
  readonly share: number;
}

/** Sums are means over the middle half of the steps by their time: they add up, and neighbours on the machine do not. */
export interface ProfileSummary {
  /** Recorded steps. */
  readonly steps: number;
  /** Of a step, from the start of its first op to the end of its last. */
  readonly milliseconds: Spread;
  /** Slowest first. */
  readonly kinds: readonly KindTime[];
  /** What no op accounts for. */
  readonly between: { readonly milliseconds: number; readonly share: number };
  /** In the order of the network. */
  readonly layers: readonly LayerTime[];
}

interface Step {
  readonly index: number;
  readonly events: ProfileEvent[];
  readonly start: number;
  /** Microseconds. */
  readonly duration: number;
}

function stepsOf(events: readonly ProfileEvent[]): Step[] {
  const byIndex = new Map<number, ProfileEvent[]>();
  for (const event of events) {
    const others = byIndex.get(event.step);
    if (others) others.push(event);
    else byIndex.set(event.step, [event]);
  }
  return [...byIndex].map(([index, own]) => {
    const start = Math.min(...own.map((event) => event.start));
    const end = Math.max(...own.map((event) => event.start + event.duration));
    return { index, events: own, start, duration: end - start };
  });
}

/** Without the fastest and the slowest quarter. */
function middleHalf(steps: readonly Step[]): Step[] {
  const cut = Math.floor(steps.length / 4);
  return [...steps].sort((a, b) => a.duration - b.duration).slice(cut, steps.length - cut);
}

const isConv = (kind: ProfileKind) => kind.startsWith('conv_');

/** Useful FLOPs of one op; 0 for those that are no convolution. */
function flopsByLayer({ batchSize, layers }: ProfiledNetwork): (event: ProfileEvent) => number {
  const flops = new Map(layers.map(({ name, macs }) => [name, 2 * macs * batchSize]));
  return ({ kind, layer }) => (isConv(kind) ? (flops.get(layer ?? '') ?? 0) : 0);
}

/**
 * @param events of whole steps, each over a batch of `network.batchSize` images
 * @throws {RangeError} for no events
 */
export function summariseProfile(events: readonly ProfileEvent[], network: ProfiledNetwork): ProfileSummary {
  const flopsOf = flopsByLayer(network);
  const steps = stepsOf(events);
  const milliseconds = spread(steps.map(({ duration }) => duration / 1000));
  const kept = middleHalf(steps);
  const total = kept.reduce((sum, { duration }) => sum + duration, 0);
  const keptEvents = kept.flatMap((step) => step.events);

  /** Count, ms a step, share and GFLOP/s of some of the events. */
  const sum = (some: readonly ProfileEvent[]) => {
    const time = some.reduce((all, { duration }) => all + duration, 0);
    const flops = some.reduce((all, event) => all + flopsOf(event), 0);
    return {
      count: some.length / kept.length,
      milliseconds: time / kept.length / 1000,
      share: time / total,
      gflops: time > 0 ? flops / time / 1000 : 0,
    };
  };
  const kinds = (Object.keys(profileKinds) as ProfileKind[]).flatMap((kind): KindTime[] => {
    const some = keptEvents.filter((event) => event.kind === kind);
    if (some.length === 0) return [];
    const { gflops, ...times } = sum(some);
    return [{ kind, ...times, ...(isConv(kind) && { gflops }) }];
  });
  const layers = network.layers.map(({ name, shape, numel, nnz }): LayerTime => {
    const own = keptEvents.filter(({ kind, layer }) => isConv(kind) && layer === name);
    const pass = (kind: ProfileKind): PassTime | null => {
      const some = own.filter((event) => event.kind === kind);
      if (some.length === 0) return null;
      const { count: _, ...times } = sum(some);
      return times;
    };
    const [forward, dgrad, wgrad] = [pass('conv_forward'), pass('conv_dgrad'), pass('conv_wgrad')];
    return { layer: name, shape, nnz, density: nnz / numel, forward, dgrad, wgrad, share: sum(own).share };
  });
  const { milliseconds: inOps, share } = sum(keptEvents);
  return {
    steps: steps.length,
    milliseconds,
    kinds: kinds.sort((a, b) => b.milliseconds - a.milliseconds),
    between: { milliseconds: total / kept.length / 1000 - inOps, share: 1 - share },
    layers,
  };
}

/** An event of Chrome's trace event format; ts and dur in microseconds. */
export interface TraceEvent {
  readonly name: string;
  /** X: complete, M: metadata. */
  readonly ph: 'X' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly cat?: string;
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

export interface Trace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: 'ms';
  readonly otherData: Readonly<Record<string, unknown>>;
}

/** Of a trace: steps above, their ops below. */
const [STEPS, OPS] = [1, 2];
const short = (value: number) => Number(value.toPrecision(4));
/** Nanoseconds are as fine as the clock. */
const microseconds = (value: number) => Number(value.toFixed(3));

/**
 * Opens in chrome://tracing and ui.perfetto.dev.
 * @param about what was profiled: kept as the trace's `otherData`
 */
export function chromeTrace(
  events: readonly ProfileEvent[],
  network: ProfiledNetwork,
  about: Readonly<Record<string, unknown>> = {},
): Trace {
  const flopsOf = flopsByLayer(network);
  const layers = new Map(network.layers.map((layer) => [layer.name, layer]));
  const at = (tid: number, start: number, duration: number) =>
    ({ ph: 'X', pid: 1, tid, ts: microseconds(start), dur: microseconds(duration) }) as const;
  const named = (tid: number, name: string): TraceEvent => ({
    name: 'thread_name',
    ph: 'M',
    pid: 1,
    tid,
    args: { name },
  });
  const steps = stepsOf(events);
  return {
    traceEvents: [
      { name: 'process_name', ph: 'M', pid: 1, tid: 0, args: { name: 'random-pruning' } },
      named(STEPS, 'steps'),
      named(OPS, 'ops'),
      ...steps.flatMap(({ index, start, duration, events: own }): TraceEvent[] => [
        { name: `step ${index}`, cat: 'step', ...at(STEPS, start, duration), args: { ops: own.length } },
        ...own.map((event): TraceEvent => {
          const layer = isConv(event.kind) ? layers.get(event.layer ?? '') : undefined;
          const flops = flopsOf(event);
          return {
            name: event.layer === null ? event.kind : `${event.kind} ${event.layer}`,
            cat: event.kind,
            ...at(OPS, event.start, event.duration),
            args: {
              layer: event.layer,
              pass: profileKinds[event.kind],
              step: index,
              share: short(event.duration / duration),
              ...(layer && {
                nnz: layer.nnz,
                density: short(layer.nnz / layer.numel),
                macs: flops / 2,
                gflops: short(event.duration > 0 ? flops / event.duration / 1000 : 0),
              }),
            },
          };
        }),
      ]),
    ],
    displayTimeUnit: 'ms',
    otherData: about,
  };
}

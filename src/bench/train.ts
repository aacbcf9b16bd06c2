/**
 * Whole training steps side by side: every contestant starts from the same weights and batch, is verified, and then
 * they take turns in blocks of steps on the same cores. A sparse network is compared with the dense ones of its own
 * group only; where all do not fit in memory at once, the dense ones run again in every group.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { planMemory } from '../engine/create-session.js';
import { availableMemory } from '../engine/memory.js';
import { EnvironmentError, RunError } from '../errors.js';
import { writeCase } from './case.js';
import { Contestant, type ContestantSpec } from './contestant.js';
import { type BenchMasks, benchMasks } from './masks.js';
import { findPeers, ours } from './peers.js';
import { type Spread, spread } from './statistics.js';

export interface TrainBenchOptions {
  readonly arch: string;
  readonly ratios: readonly string[];
  readonly densities: readonly number[];
  /** Default: 128, or 32 for images larger than 64 pixels; less where the contestants would not fit in memory. */
  readonly batchSize?: number;
  readonly threads: number;
  /** Timed seconds a contestant gets, at least `rounds` steps. */
  readonly seconds: number;
  /** Turns each contestant takes. */
  readonly rounds: number;
  /** Without the other libraries. */
  readonly withoutPeers?: boolean;
  readonly onProgress?: (message: string) => void;
}

export interface Entry {
  readonly name: string;
  readonly kind: ContestantSpec['kind'];
  readonly precision: ContestantSpec['precision'];
  readonly version: string;
  readonly milliseconds: Spread;
  readonly imagesPerSecond: number;
  readonly peakBytes: number | null;
  /** Of the first two steps. */
  readonly losses: readonly number[];
  /** Absent: dense. */
  readonly ratio?: string;
  readonly density?: number;
  readonly flopsRatio?: number;
  /** Its time ÷ our dense one's, and its speed over each dense contestant of the same group, by name. */
  readonly timeRatio?: number;
  readonly speedups?: Readonly<Record<string, number>>;
  /** The best speed over a dense fp32 peer; our own where no peer is installed. */
  readonly speedup?: number;
}

export interface TrainBench {
  readonly arch: string;
  readonly batchSize: number;
  readonly threads: number;
  readonly missing: readonly string[];
  /** Groups that ran side by side. */
  readonly groups: readonly (readonly Entry[])[];
}

/** Peak of a contestant over what our dense plan allocates, on the safe side; for fitting them in memory only. */
const MEMORY_FACTOR = { ours: 1.3, onednn: 2.5, pytorch: 3 } as const;
const PROCESS_BYTES = 300e6;

/** Splits sparse contestants so that each group fits beside the dense ones. */
export function makeGroups<T>(sparse: readonly T[], bytes: (spec: T) => number, room: number): T[][] {
  const groups: T[][] = [];
  let left = 0;
  for (const spec of sparse) {
    const needed = bytes(spec);
    if (groups.length === 0 || needed > left) {
      groups.push([]);
      left = room;
    }
    groups.at(-1)!.push(spec);
    left -= needed;
  }
  return groups.length > 0 ? groups : [[]];
}

function requireClose(what: string, got: number, expected: number, tolerance: number): void {
  if (Math.abs(got - expected) <= tolerance * Math.max(1, Math.abs(expected))) return;
  throw new RunError(
    `[bench] ${what}: expected a loss of ${expected} within ${tolerance}, got ${got}; not timed.`,
  );
}

/** First losses must agree: the dense ones with each other, each sparse one with the dense network under its mask. */
async function verify(contestants: readonly Contestant[], first: ReadonlyMap<Contestant, readonly number[]>) {
  const dense = contestants[0]!;
  const expected = first.get(dense)!;
  for (const contestant of contestants) {
    const { name, sparse, precision } = contestant.spec;
    const got = first.get(contestant)!;
    // Rounding differs by the order of sums: fp32 steps agree to 1e-3 of the loss, bf16 has 8 bits.
    const tolerance = precision === 'bf16' ? 0.05 : 1e-3;
    if (sparse) continue; // verified before it trained
    for (const step of got.keys()) {
      requireClose(`${name}, step ${step + 1}`, got[step]!, expected[step]!, tolerance);
    }
  }
}

/** Times one group. The first contestant is ours, dense. */
async function runGroup(
  specs: readonly ContestantSpec[],
  options: TrainBenchOptions & { readonly batchSize: number },
  flops: (spec: ContestantSpec) => BenchMasks,
): Promise<Entry[]> {
  const { rounds, seconds, batchSize, onProgress } = options;
  const contestants: Contestant[] = [];
  try {
    for (const spec of specs) {
      onProgress?.(`starting ${spec.name}`);
      contestants.push(await Contestant.start(spec));
    }
    const masked = new Map<Contestant, number>();
    for (const contestant of contestants) {
      const { sparse } = contestant.spec;
      if (sparse) masked.set(contestant, await contestants[0]!.maskedLoss(sparse));
    }
    const first = new Map<Contestant, readonly number[]>();
    const blockSteps = new Map<Contestant, number>();
    const peaks = new Map<Contestant, number | null>();
    for (const contestant of contestants) {
      const warmUp = await contestant.steps(2);
      first.set(contestant, warmUp.losses);
      blockSteps.set(contestant, Math.max(1, Math.round(seconds / rounds / warmUp.seconds.at(-1)!)));
      const expected = masked.get(contestant);
      if (expected !== undefined) requireClose(contestant.spec.name, warmUp.losses[0]!, expected, 1e-3);
    }
    await verify(contestants, first);
    const times = new Map<Contestant, number[]>(contestants.map((contestant) => [contestant, []]));
    for (let round = 0; round < rounds; round++) {
      onProgress?.(`round ${round + 1} of ${rounds}`);
      for (let turn = 0; turn < contestants.length; turn++) {
        const contestant = contestants[(turn + round) % contestants.length]!;
        await sleep(30); // threads of the one before, still spinning for work, fall asleep
        const block = await contestant.steps(blockSteps.get(contestant)!);
        times.get(contestant)!.push(...block.seconds);
        peaks.set(contestant, block.peak_bytes);
      }
    }
    const entries = contestants.map((contestant): Entry => {
      const { name, kind, precision, sparse } = contestant.spec;
      const milliseconds = spread(times.get(contestant)!.map((value) => 1000 * value));
      return {
        name,
        kind,
        precision,
        version: contestant.version,
        milliseconds,
        imagesPerSecond: (1000 * batchSize) / milliseconds.median,
        peakBytes: peaks.get(contestant) ?? null,
        losses: first.get(contestant)!,
        ...(sparse && { ...sparse, flopsRatio: flops(contestant.spec).flopsRatio }),
      };
    });
    return entries.map((entry) => compare(entry, entries));
  } finally {
    for (const contestant of contestants) await contestant.close();
  }
}

/** Adds to a sparse entry how it stands against the dense ones beside it. */
export function compare(entry: Entry, group: readonly Entry[]): Entry {
  if (entry.density === undefined) return entry;
  const dense = group.filter(({ density }) => density === undefined);
  const over = (other: Entry) => other.milliseconds.median / entry.milliseconds.median;
  const peers = dense.filter(({ kind, precision }) => kind !== 'ours' && precision === 'fp32');
  return {
    ...entry,
    timeRatio: 1 / over(dense.find(({ kind }) => kind === 'ours')!),
    speedups: Object.fromEntries(dense.map((other) => [other.name, over(other)])),
    speedup: Math.min(...(peers.length > 0 ? peers : dense).map(over)),
  };
}

/**
 * @throws {EnvironmentError} where not even two contestants fit in memory; {RunError} when one's numbers are wrong
 */
export async function benchTraining(options: TrainBenchOptions): Promise<TrainBench> {
  const { arch, threads, onProgress } = options;
  const directory = mkdtempSync(join(tmpdir(), 'rp-bench-'));
  try {
    const room = 0.85 * availableMemory();
    const natural = { batch: options.batchSize ?? 0 };
    let model = writeCase(directory, arch, 1);
    natural.batch ||= model.graph.input[1] > 64 ? 32 : 128;
    const found = options.withoutPeers ? { contestants: [], missing: [] } : findPeers(directory, threads);
    const sparse = options.ratios.flatMap((ratio) =>
      options.densities.map((density) => ours(directory, threads, { ratio, density })),
    );
    const dense = [ours(directory, threads), ...found.contestants];
    let batchSize = natural.batch;
    let bytes: (spec: ContestantSpec) => number;
    let denseBytes: number;
    for (; ; batchSize >>= 1) {
      if (batchSize === 0) {
        throw new EnvironmentError(
          `[bench] ${arch}: the contestants do not fit in memory, not even with one image.`,
        );
      }
      const { total } = planMemory({
        graph: model.graph,
        engine: 'cpu',
        batchSize,
        programs: ['train'],
        threads,
      });
      bytes = ({ kind }) => MEMORY_FACTOR[kind] * total + PROCESS_BYTES;
      denseBytes = dense.reduce((sum, spec) => sum + bytes(spec), 0);
      if (denseBytes + (sparse[0] ? bytes(sparse[0]) : 0) <= room) break;
    }
    if (batchSize < natural.batch) {
      onProgress?.(`batch ${natural.batch} does not fit ${dense.length + 1} contestants: ${batchSize}`);
    }
    model = writeCase(directory, arch, batchSize);
    const groups: Entry[][] = [];
    for (const group of makeGroups(sparse, bytes, room - denseBytes)) {
      const flops = ({ sparse: masks }: ContestantSpec) =>
        benchMasks(model.graph, masks!.ratio, masks!.density);
      const say = (message: string) => onProgress?.(`${arch}: ${message}`);
      groups.push(await runGroup([...dense, ...group], { ...options, batchSize, onProgress: say }, flops));
    }
    return { arch, batchSize, threads, missing: found.missing, groups };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * Whole training steps side by side: every contestant starts from the same weights and batch, is verified, and then
 * they take turns in blocks of steps on the same cores. Where all do not fit in memory at once, each is started for
 * its turn and ended after it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildModel } from '../architectures/index.js';
import { planMemory } from '../engine/create-session.js';
import { availableMemory } from '../engine/memory.js';
import { EnvironmentError, RunError } from '../errors.js';
import { bytesText } from '../units.js';
import { writeCase } from './case.js';
import { Contestant, type ContestantSpec } from './contestant.js';
import { benchMasks } from './masks.js';
import { findPeers, ours } from './peers.js';
import { type Spread, spread } from './statistics.js';

export interface TrainBenchOptions {
  readonly arch: string;
  readonly ratios: readonly string[];
  readonly densities: readonly number[];
  /** Default: 128, or 32 for images larger than 64 pixels; less where a contestant would not fit in memory. */
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
  /** Its time ÷ our dense one's, and its speed over each dense contestant, by name. */
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
  /** Whether all processes lived side by side, or each only for its turns. */
  readonly resident: boolean;
  readonly entries: readonly Entry[];
}

/** Peak of a contestant over what our dense plan allocates, on the safe side; for fitting them in memory only. */
const MEMORY_FACTOR = { ours: 1.2, onednn: 1.6, pytorch: 1.4 } as const;
const PROCESS_BYTES = 300e6;

function requireClose(what: string, got: number, expected: number, tolerance: number): void {
  if (Math.abs(got - expected) <= tolerance * Math.max(1, Math.abs(expected))) return;
  throw new RunError(
    `[bench] ${what}: expected a loss of ${expected} within ${tolerance}, got ${got}; not timed.`,
  );
}

/**
 * The first losses of a contestant agree with our dense ones, or with the dense network under its mask. Rounding
 * differs by the order of sums, and an update enlarges the difference.
 */
function verify(
  { name, precision, sparse }: ContestantSpec,
  losses: readonly number[],
  expected: readonly number[],
) {
  const tolerances = precision === 'bf16' ? [0.05, 0.1] : [1e-3, 1e-2];
  const compared = sparse ? 1 : losses.length;
  for (let step = 0; step < compared; step++) {
    requireClose(`${name}, step ${step + 1}`, losses[step]!, expected[step]!, tolerances[step]!);
  }
}

/** One contestant over the whole bench; `turn` runs in a process that is kept, or started for it. */
class Seat {
  #kept: Contestant | null = null;
  readonly seconds: number[] = [];
  version = '';
  peakBytes: number | null = null;
  firstLosses: readonly number[] = [];
  blockSteps = 1;

  constructor(
    readonly spec: ContestantSpec,
    readonly resident: boolean,
  ) {}

  async turn<T>(work: (contestant: Contestant, fresh: boolean) => Promise<T>): Promise<T> {
    const fresh = this.#kept === null;
    const contestant = this.#kept ?? (await Contestant.start(this.spec));
    this.version = contestant.version;
    if (this.resident) this.#kept = contestant;
    try {
      return await work(contestant, fresh);
    } finally {
      if (!this.resident) await contestant.close();
    }
  }

  async close(): Promise<void> {
    await this.#kept?.close();
  }
}

/** Verifies every contestant, then times them in turns. The first is ours, dense. */
async function takeTurns(seats: readonly Seat[], options: TrainBenchOptions): Promise<void> {
  const { rounds, seconds, onProgress } = options;
  const [ours] = seats;
  const masked = new Map<Seat, number>();
  await ours!.turn(async (contestant) => {
    for (const seat of seats) {
      if (seat.spec.sparse) masked.set(seat, await contestant.maskedLoss(seat.spec.sparse));
    }
    ours!.firstLosses = (await contestant.steps(2)).losses;
  });
  for (const seat of seats) {
    onProgress?.(`verifying ${seat.spec.name}`);
    await seat.turn(async (contestant, fresh) => {
      const warmUp = await contestant.steps(2);
      seat.blockSteps = Math.max(1, Math.round(seconds / rounds / warmUp.seconds.at(-1)!));
      if (seat === ours && !fresh) return; // its first steps are behind it
      const own = masked.get(seat);
      verify(seat.spec, warmUp.losses, own === undefined ? ours!.firstLosses : [own]);
      seat.firstLosses = warmUp.losses;
    });
  }
  for (let round = 0; round < rounds; round++) {
    onProgress?.(`round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < seats.length; turn++) {
      const seat = seats[(turn + round) % seats.length]!;
      await sleep(30); // threads of the one before, still spinning for work, fall asleep
      await seat.turn(async (contestant, fresh) => {
        if (fresh) await contestant.steps(1); // pages and plans are made by the first step
        const block = await contestant.steps(seat.blockSteps);
        seat.seconds.push(...block.seconds);
        seat.peakBytes = block.peak_bytes;
      });
    }
  }
}

/**
 * The batch asked for, halved until every contestant by itself fits in memory, and whether all fit side by side.
 * @throws {EnvironmentError} where not even one image fits
 */
export function fittingBatch(
  specs: readonly Pick<ContestantSpec, 'kind'>[],
  { arch, threads, batchSize: given }: Pick<TrainBenchOptions, 'arch' | 'threads' | 'batchSize'>,
  say: (message: string) => void,
): { readonly batchSize: number; readonly resident: boolean } {
  const { graph } = buildModel(arch);
  const room = 0.85 * availableMemory();
  const bytesOf = (batchSize: number) => {
    const { total } = planMemory({ graph, engine: 'cpu', batchSize, programs: ['train'], threads });
    return specs.map(({ kind }) => MEMORY_FACTOR[kind] * total + PROCESS_BYTES);
  };
  const asked = given ?? (graph.input[1] > 64 ? 32 : 128);
  let batchSize = asked;
  while (Math.max(...bytesOf(batchSize)) > room) {
    batchSize >>= 1;
    if (batchSize === 0) {
      throw new EnvironmentError(`[bench] ${arch}: expected memory for one image, got ${bytesText(room)}.`);
    }
  }
  if (batchSize < asked) say(`batch ${asked} does not fit in memory: ${batchSize}`);
  return { batchSize, resident: bytesOf(batchSize).reduce((sum, bytes) => sum + bytes, 0) <= room };
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
 * @throws {EnvironmentError} where not even one image fits in memory; {RunError} when a contestant's numbers are wrong
 */
export async function benchTraining(options: TrainBenchOptions): Promise<TrainBench> {
  const { arch, threads, onProgress } = options;
  const say = (message: string) => onProgress?.(`${arch}: ${message}`);
  const { graph } = buildModel(arch);
  const directory = mkdtempSync(join(tmpdir(), 'rp-bench-'));
  const seats: Seat[] = [];
  try {
    const found = options.withoutPeers ? { contestants: [], missing: [] } : findPeers(directory, threads);
    const sparse = options.ratios.flatMap((ratio) =>
      options.densities.map((density) => ours(directory, threads, { ratio, density })),
    );
    const specs = [ours(directory, threads), ...found.contestants, ...sparse];
    const { batchSize, resident } = fittingBatch(specs, options, say);
    writeCase(directory, arch, batchSize);
    for (const spec of specs) seats.push(new Seat(spec, resident));
    await takeTurns(seats, { ...options, onProgress: say });
    const entries = seats.map(({ spec, version, seconds, peakBytes, firstLosses }): Entry => {
      const milliseconds = spread(seconds.map((value) => 1000 * value));
      const { name, kind, precision, sparse: masks } = spec;
      return {
        name,
        kind,
        precision,
        version,
        milliseconds,
        imagesPerSecond: (1000 * batchSize) / milliseconds.median,
        peakBytes,
        losses: firstLosses,
        ...(masks && { ...masks, flopsRatio: benchMasks(graph, masks.ratio, masks.density).flopsRatio }),
      };
    });
    const compared = entries.map((entry) => compare(entry, entries));
    return { arch, batchSize, threads, missing: found.missing, resident, entries: compared };
  } finally {
    for (const seat of seats) await seat.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What `npm run bench` writes: one JSON file a day and machine; the tables and plots are made of them alone. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { slug } from '../units.js';
import type { Ceilings, LayerTiming } from './layers.js';
import type { TrainBench } from './train.js';

export interface ScalingPoint {
  readonly arch: string;
  readonly batchSize: number;
  readonly threads: number;
  /** Images/s: our dense network, our sparse one, and the fastest dense fp32 peer (null: none installed). */
  readonly dense: number;
  readonly sparse: number;
  readonly peer: { readonly name: string; readonly imagesPerSecond: number } | null;
}

export interface BenchResults {
  readonly version: 1;
  readonly date: string;
  /** From `rp doctor`'s view of the machine: processor, cores, kernels. */
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly platform: string;
    readonly isa: string;
    readonly node: string;
    readonly package: string;
    readonly git: string | null;
  };
  /** The command of each section. */
  readonly commands: Readonly<Record<string, string>>;
  readonly ceilings?: Ceilings;
  readonly layers?: readonly LayerTiming[];
  readonly train?: readonly TrainBench[];
  readonly scaling?: {
    readonly ratio: string;
    readonly density: number;
    readonly points: readonly ScalingPoint[];
  };
}

/** `now` in place of what it measured again, the rest of `before` kept. */
function merged<T>(
  before: readonly T[] | undefined,
  now: readonly T[] | undefined,
  key: (item: T) => string,
): readonly T[] | undefined {
  if (!before || !now) return now ?? before;
  const again = new Map(now.map((item) => [key(item), item]));
  const kept = before.map((item) => again.get(key(item)) ?? item);
  const known = new Set(before.map(key));
  return [...kept, ...now.filter((item) => !known.has(key(item)))];
}

/** Layers in the order in which they first came, each by ascending sparsity. */
function ordered(layers: readonly LayerTiming[]): LayerTiming[] {
  const names = [...new Set(layers.map(({ layer }) => layer))];
  return [...layers].sort(
    (a, b) => names.indexOf(a.layer) - names.indexOf(b.layer) || a.sparsity - b.sparsity,
  );
}

/** A later run replaces the layers, networks and sections that it measured and leaves the others. */
export function mergeResults(before: BenchResults | null, now: BenchResults): BenchResults {
  const layers = merged(before?.layers, now.layers, ({ layer, sparsity }) => `${layer} ${sparsity}`);
  const train = merged(before?.train, now.train, ({ arch, batchSize }) => `${arch} ${batchSize}`);
  const commands = { ...before?.commands };
  for (const [section, command] of Object.entries(now.commands)) {
    const earlier = commands[section]?.split(' · ').filter((other) => other !== command) ?? [];
    commands[section] = [...earlier, command].join(' · ');
  }
  return { ...before, ...now, ...(layers && { layers: ordered(layers) }), ...(train && { train }), commands };
}

/** One machine and its kernels: results of different ones are never mixed. */
export const machineName = ({ cpu, isa }: Pick<BenchResults['machine'], 'cpu' | 'isa'>) =>
  slug(`${cpu} ${isa}`);

const fileName = ({ date, machine }: BenchResults) => `${date.slice(0, 10)}-${machineName(machine)}.json`;

/** A folder's results: where this day's of this machine stand, and the newest of each other machine. */
export interface StoredResults {
  readonly file: string;
  readonly before: BenchResults | null;
  readonly others: readonly BenchResults[];
}

/** Errors: a file that cannot be read, or is no JSON. */
export function storedResults(folder: string, now: BenchResults): StoredResults {
  const newest = new Map<string, BenchResults>();
  let before: BenchResults | null = null;
  // By date, so that the last of a machine is its newest.
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.json')) continue;
    const results = JSON.parse(readFileSync(join(folder, name), 'utf8')) as BenchResults;
    newest.set(machineName(results.machine), results);
    if (name === fileName(now)) before = results;
  }
  newest.delete(machineName(now.machine));
  return { file: join(folder, fileName(now)), before, others: [...newest.values()] };
}

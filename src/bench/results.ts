/** What `npm run bench` writes: one JSON file a day and processor; the tables and plots are made of it alone. */
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

/** A later run of some sections replaces these and leaves the others. */
export function mergeResults(before: BenchResults | null, now: BenchResults): BenchResults {
  return { ...before, ...now, commands: { ...before?.commands, ...now.commands } };
}

/** "AMD EPYC 9R14 96-Core Processor" → "amd-epyc-9r14-96-core-processor". */
export const fileNameOf = (cpu: string) =>
  cpu
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '') || 'unknown';

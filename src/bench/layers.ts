/** The per-layer bench beside oneDNN (bench/layers, a program of the bench build): running it, and its classes. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { RunError } from '../errors.js';
import { geometricMean } from './statistics.js';

export interface PassTiming {
  readonly ms: number;
  readonly ms_quartiles: readonly [number, number];
  readonly onednn_ms: number;
  readonly onednn_quartiles: readonly [number, number];
  /** Useful: multiply-adds of kept weights only. */
  readonly gflops: number;
  /** Which ceiling leaves the pass the longer time: load-FMA (FMA where dense), or memory. */
  readonly bound: 'compute' | 'memory';
  /** That time ÷ the time taken. */
  readonly of_bound: number;
  readonly speedup: number;
}

export interface LayerTiming {
  readonly layer: string;
  /** C K H W, kernel height and width, stride, padding. */
  readonly shape: readonly number[];
  readonly images: number;
  readonly sparsity: number;
  readonly nnz: number;
  readonly threads: number;
  readonly choice: string;
  readonly kernel: string;
  /** Parameter-side: values, gradients, momentum, packed weights, index. */
  readonly bytes: number;
  readonly forward: PassTiming;
  /** Either one after the other, */
  readonly dgrad?: PassTiming;
  readonly wgrad?: PassTiming;
  /** or both by one kernel, beside oneDNN's two. */
  readonly backward?: PassTiming;
  /** oneDNN's three passes ÷ ours. */
  readonly speedup: number;
  readonly onednn: string;
}

export interface Ceilings {
  readonly isa: string;
  readonly threads: number;
  readonly fma_gflops: number;
  readonly load_fma_gflops: number;
  /** Bytes read from memory; bytes read and written past the caches. */
  readonly read_gbs: number;
  readonly copy_gbs: number;
  /** `of_bound` is of ceilings measured right before and after each pass, not of these; absent: of these. */
  readonly beside_passes?: boolean;
}

export interface LayerClass {
  readonly name: string;
  readonly has: (timing: LayerTiming) => boolean;
  /** Speed-ups we set out to reach, by sparsity. */
  readonly goals: Readonly<Record<string, number>>;
}

const is3x3 = ({ shape }: LayerTiming) => shape[4] === 3;
const isWide = ({ shape }: LayerTiming) => Math.min(shape[0]!, shape[1]!) >= 128;
const isUnitStride = ({ shape }: LayerTiming) => shape[6] === 1;
// A linear layer is a 1x1 convolution of one pixel to the kernels, but no such layer to a reader.
const is1x1 = ({ shape }: LayerTiming) => shape[4] === 1 && shape[2]! > 1;
const isResNet3x3 = (timing: LayerTiming) =>
  timing.layer.startsWith('resnet.') && is3x3(timing) && timing.shape[0]! >= 16;

const wideGoals = { '0.5': 1.45, '0.7': 2.3, '0.9': 5.8, '0.95': 9.5 };
const resnetGoals = { '0.5': 1.45, '0.7': 2.2, '0.9': 4.3, '0.95': 5.4 };

export const layerClasses: readonly LayerClass[] = [
  { name: '3x3, at least 128 channels', has: (t) => is3x3(t) && isWide(t), goals: wideGoals },
  {
    name: '— of these, stride 1',
    has: (t) => is3x3(t) && isWide(t) && isUnitStride(t),
    goals: wideGoals,
  },
  { name: '3x3 of the CIFAR ResNets', has: isResNet3x3, goals: resnetGoals },
  { name: '— of these, stride 1', has: (t) => isResNet3x3(t) && isUnitStride(t), goals: resnetGoals },
  { name: '1x1', has: is1x1, goals: { '0.5': 1.15, '0.7': 1.7, '0.9': 3.5, '0.95': 5.3 } },
  {
    name: 'others',
    has: (t) => !(is3x3(t) && isWide(t)) && !isResNet3x3(t) && !is1x1(t),
    goals: {},
  },
];

export interface ClassMean {
  readonly name: string;
  readonly sparsity: number;
  readonly layers: number;
  /** Geometric mean of the layers' speed-ups over oneDNN. */
  readonly mean: number;
  /** The slowest layer's speed-up ÷ the mean. */
  readonly lowest: number;
  /** The least time that the measured ceilings leave all passes ÷ the time taken. */
  readonly ofCeilings: number;
  readonly goal: number | null;
}

/** The least time that the measured ceilings leave a layer's passes ÷ the time taken. */
function ofCeilings({ forward, dgrad, wgrad, backward }: LayerTiming): number {
  const passes = [forward, dgrad, wgrad, backward].filter((pass) => pass !== undefined);
  const least = passes.reduce((sum, { ms, of_bound }) => sum + ms * of_bound, 0);
  return least / passes.reduce((sum, { ms }) => sum + ms, 0);
}

/** A row a class and sparsity, classes in their order, sparsities ascending; empty classes have none. */
export function classMeans(timings: readonly LayerTiming[]): ClassMean[] {
  const sparsities = [...new Set(timings.map(({ sparsity }) => sparsity))].sort((a, b) => a - b);
  return layerClasses.flatMap(({ name, has, goals }) =>
    sparsities.flatMap((sparsity) => {
      const members = timings.filter((t) => t.sparsity === sparsity && has(t));
      if (members.length === 0) return [];
      const speedups = members.map(({ speedup }) => speedup);
      const mean = geometricMean(speedups);
      const goal = goals[String(sparsity)] ?? null;
      return [
        {
          ...{ name, sparsity, layers: members.length, mean, lowest: Math.min(...speedups) / mean },
          ...{ ofCeilings: geometricMean(members.map(ofCeilings)), goal },
        },
      ];
    }),
  );
}

export interface LayerBytes {
  readonly sparsity: number;
  /** Bytes a kept weight of all layers together, less one bit a weight; of the worst layer of at least 1,000 kept. */
  readonly perNonzero: number;
  /** Null: there is none. */
  readonly worst: number | null;
}

/** What sparse layers hold a kept weight, by sparsity. */
export function layerBytes(timings: readonly LayerTiming[]): LayerBytes[] {
  const sparse = timings.filter(({ sparsity }) => sparsity > 0);
  const numel = ({ shape: [c, k, , , r, s] }: LayerTiming) => c! * k! * r! * s!;
  const beyondBits = (t: LayerTiming) => t.bytes - numel(t) / 8;
  return [...new Set(sparse.map(({ sparsity }) => sparsity))]
    .sort((a, b) => a - b)
    .map((sparsity) => {
      const of = sparse.filter((t) => t.sparsity === sparsity);
      const nnz = of.reduce((sum, t) => sum + t.nnz, 0);
      const large = of.filter((t) => t.nnz >= 1000);
      return {
        sparsity,
        perNonzero: of.reduce((sum, t) => sum + beyondBits(t), 0) / nnz,
        worst: large.length > 0 ? Math.max(...large.map((t) => beyondBits(t) / t.nnz)) : null,
      };
    });
}

export interface LayerBenchOptions {
  readonly program: string;
  readonly shapeFiles: readonly string[];
  readonly threads: number;
  readonly sparsities: readonly number[];
  readonly repetitions: number;
  readonly onProgress?: (message: string) => void;
}

/** Runs the program on each file of shapes. @throws {RunError} when a kernel's numbers are wrong, or it fails. */
export async function benchLayers(
  options: LayerBenchOptions,
): Promise<{ ceilings: Ceilings; layers: LayerTiming[] }> {
  const layers: LayerTiming[] = [];
  let ceilings: Ceilings | undefined;
  for (const shapes of options.shapeFiles) {
    const { threads, sparsities, repetitions } = options;
    const settings = { '--threads': threads, '--sparsity': sparsities.join(), '--repetitions': repetitions };
    const child = spawn(
      options.program,
      [shapes, '--measure', ...Object.entries(settings).flatMap(([flag, value]) => [flag, String(value)])],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const value = JSON.parse(line) as LayerTiming & { ceilings?: Ceilings };
      if (value.ceilings) {
        ceilings ??= value.ceilings;
        continue;
      }
      layers.push(value);
      options.onProgress?.(`${value.layer} at ${value.sparsity}: ${value.speedup}x`);
    }
    const code = await ended;
    if (code !== 0) throw new RunError(`[bench] ${options.program} ${shapes} ended with ${code}.`);
  }
  return { ceilings: ceilings!, layers };
}

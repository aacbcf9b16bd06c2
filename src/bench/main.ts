/**
 * `npm run bench` once its programs are built (bench/run.mjs): layers, training steps and scaling, then
 * bench/results/<date>-<cpu>-<kernels>.json, the plots beside it, and bench/RESULTS.md, which also shows the newest
 * results of other machines. Sections not run keep what the day's
 * file has of them.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { native, packageRoot } from '../engine/native.js';
import { UsageError } from '../errors.js';
import { sparsityToDensity } from '../resolve-config.js';
import { describeMachine } from '../training/machine.js';
import { benchLayers } from './layers.js';
import { plots, resultsText, trainTable } from './report.js';
import { type BenchResults, mergeResults, type ScalingPoint, storedResults } from './results.js';
import { benchTraining, type TrainBench } from './train.js';

const SECTIONS = ['layers', 'train', 'scaling'] as const;
type Section = (typeof SECTIONS)[number];

const say = (message: string) => process.stderr.write(`${message}\n`);
const root = packageRoot();

interface Settings {
  readonly quick: boolean;
  readonly threads: number;
  readonly archs: readonly string[];
  readonly ratios: readonly string[];
  readonly densities: readonly number[];
  readonly seconds: number;
  readonly rounds: number;
  readonly repetitions: number;
  /** Of bench/shapes. */
  readonly shapes: readonly string[];
  /** Of the layers; 0: our dense kernel. */
  readonly sparsities: readonly number[];
}

async function runTrain(settings: Settings): Promise<TrainBench[]> {
  const benches: TrainBench[] = [];
  for (const arch of settings.archs) {
    const batch = settings.quick ? { batchSize: 32 } : {};
    benches.push(await benchTraining({ ...settings, ...batch, arch, onProgress: say }));
  }
  return benches;
}

async function runScaling(settings: Settings): Promise<NonNullable<BenchResults['scaling']>> {
  const { quick } = settings;
  const [ratio, density, arch] = ['erk', 0.1, 'resnet20'];
  const cores = native().session.cpu().cores;
  const counts = [1, 2, 4, 8, 16, 32, 64].filter((count) => count <= cores);
  if (!counts.includes(cores)) counts.push(cores);
  const points: ScalingPoint[] = [];
  for (const threads of quick ? counts.slice(-1) : counts) {
    for (const batchSize of quick ? [16, 64] : [16, 64, 128, 256, 512]) {
      say(`scaling: ${threads} threads, batch ${batchSize}`);
      const { entries } = await benchTraining({
        ...settings,
        arch,
        threads,
        batchSize,
        ratios: [ratio],
        densities: [density],
        seconds: Math.min(settings.seconds, 3),
      });
      const peers = entries
        .filter(({ kind, precision }) => kind !== 'ours' && precision === 'fp32')
        .sort((a, b) => b.imagesPerSecond - a.imagesPerSecond);
      const best = peers[0];
      points.push({
        arch,
        batchSize,
        threads,
        dense: entries.find(({ name }) => name === 'ours dense')!.imagesPerSecond,
        sparse: entries.find((entry) => entry.density !== undefined)!.imagesPerSecond,
        peer: best ? { name: best.name, imagesPerSecond: best.imagesPerSecond } : null,
      });
    }
  }
  return { ratio, density, points };
}

async function runLayers(settings: Settings) {
  const program = join(root, 'build', 'bench', 'bench', 'layers', 'rp_bench_layers');
  if (!existsSync(program)) {
    say('layers: not measured, no bench program. sudo apt-get install libdnnl-dev, then npm run bench.');
    return {};
  }
  const names = settings.shapes;
  return benchLayers({
    program,
    shapeFiles: names.map((name) => join(root, 'bench', 'shapes', `${name}.txt`)),
    threads: settings.threads,
    sparsities: settings.sparsities,
    repetitions: settings.repetitions,
    onProgress: say,
  });
}

function machine(): BenchResults['machine'] {
  const { cpu, cores, memory_bytes, platform, node, version, git } = describeMachine();
  return {
    cpu,
    cores,
    memoryBytes: memory_bytes,
    platform,
    node,
    package: version,
    git,
    isa: native().session.cpu().isa,
  };
}

/** Writes JSON, plots and the page; `folder` holds the page, `folder`/results the rest. */
function write(results: BenchResults, folder: string): void {
  const beside = join(folder, 'results');
  mkdirSync(beside, { recursive: true });
  const { file, before, others } = storedResults(beside, results);
  const all = mergeResults(before, results);
  writeFileSync(file, `${JSON.stringify(all, null, 1)}\n`);
  for (const machine of [all, ...others]) {
    for (const [chart, svg] of plots(machine)) writeFileSync(join(beside, chart), svg);
  }
  const page = join(folder, 'RESULTS.md');
  writeFileSync(page, resultsText([all, ...others], 'results'));
  say(`${page}\n${file}`);
}

function sectionsOf(only: string | undefined): readonly Section[] {
  if (only === undefined) return SECTIONS;
  return only.split(',').map((name) => {
    const section = SECTIONS.find((known) => known === name);
    if (!section) throw new UsageError(`--only: unknown section "${name}". Known: ${SECTIONS.join(', ')}.`);
    return section;
  });
}

const numbers = (text: string) => text.split(',').map(Number);

export async function main(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      threads: { type: 'string' },
      only: { type: 'string' },
      arch: { type: 'string' },
      sparsity: { type: 'string' },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      repetitions: { type: 'string' },
      shapes: { type: 'string' },
      out: { type: 'string' },
    },
  });
  const { quick } = values;
  const settings: Settings = {
    quick,
    threads: Number(values.threads ?? native().session.cpu().cores),
    archs: values.arch?.split(',') ?? (quick ? ['resnet20'] : ['resnet20', 'resnet56', 'vgg16', 'wrn50']),
    ratios: quick ? ['erk'] : ['uniform', 'erk'],
    densities: (values.sparsity ? numbers(values.sparsity) : quick ? [0.9] : [0.5, 0.9, 0.95]).map(
      sparsityToDensity,
    ),
    seconds: Number(values.seconds ?? (quick ? 0.5 : 10)),
    rounds: Number(values.rounds ?? (quick ? 2 : 5)),
    repetitions: Number(values.repetitions ?? (quick ? 3 : 9)),
    shapes: values.shapes?.split(',') ?? (quick ? ['resnet20'] : ['resnet20', 'vgg16', 'wrn50']),
    sparsities: values.sparsity
      ? [0, ...numbers(values.sparsity)]
      : quick
        ? [0, 0.9]
        : [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98],
  };
  const sections = sectionsOf(values.only);
  const command = `npm run bench${argv.length > 0 ? ` -- ${argv.join(' ')}` : ''}`;
  // A quick run is a smoke test: its figures do not replace the page's.
  const folder = values.out
    ? resolve(values.out)
    : join(root, quick ? join('build', 'bench-quick') : 'bench');
  const date = new Date().toISOString();
  for (const section of sections) {
    let part: Partial<BenchResults>;
    if (section === 'layers') part = await runLayers(settings);
    else if (section === 'train') part = { train: await runTrain(settings) };
    else part = { scaling: await runScaling(settings) };
    // Each section is written as it ends: the next may take an hour.
    write({ version: 1, date, machine: machine(), commands: { [section]: command }, ...part }, folder);
    if (part.train) process.stdout.write(trainTable(part.train));
  }
}

if (os.platform() !== 'linux') say('bench: peak memory is only known on Linux.');
await main(process.argv.slice(2));

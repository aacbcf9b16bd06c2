/**
 * `npm run bench` once its programs are built (bench/run.mjs): layers, training steps and scaling, then
 * bench/results/<date>-<cpu>-<kernels>.json, the plots beside it, and bench/RESULTS.md, which also shows the newest
 * results of other machines. Sections not run keep what the day's file has of them.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { native, packageRoot } from '../engine/native.js';
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

const names = (text: string) => text.split(',');

function amount(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('Expected a positive number.');
  return value;
}

function count(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isInteger(value))) throw new InvalidArgumentError('Expected a positive integer.');
  return value;
}

function sparsities(text: string): number[] {
  const values = names(text).map(Number);
  if (!values.every((value) => value >= 0 && value < 1))
    throw new InvalidArgumentError('Expected numbers from 0 to below 1, by commas.');
  return values;
}

function sectionsOf(text: string): Section[] {
  return names(text).map((name) => {
    const section = SECTIONS.find((known) => known === name);
    if (!section) throw new InvalidArgumentError(`Expected some of ${SECTIONS.join(', ')}, by commas.`);
    return section;
  });
}

const shapeFiles = readdirSync(join(root, 'bench', 'shapes')).map((file) => file.replace(/\.txt$/, ''));

function shapesOf(text: string): string[] {
  if (!names(text).every((name) => shapeFiles.includes(name)))
    throw new InvalidArgumentError(`Expected some of ${shapeFiles.join(', ')}, by commas.`);
  return names(text);
}

interface Options {
  quick?: true;
  threads?: number;
  only?: Section[];
  arch?: string[];
  sparsity?: number[];
  seconds?: number;
  rounds?: number;
  repetitions?: number;
  shapes?: string[];
  out?: string;
}

export async function main(argv: readonly string[]): Promise<void> {
  const options = new Command('npm run bench --')
    .description(
      'Layers, training steps and scaling beside oneDNN and PyTorch; writes bench/RESULTS.md, results and plots.',
    )
    .option('--quick', 'a smoke test in seconds, into build/bench-quick')
    .option('--threads <n>', 'of every contestant (default: every core)', count)
    .option('--only <sections>', `some of ${SECTIONS.join(',')}`, sectionsOf)
    .option('--arch <names>', 'networks of the training steps, by commas', names)
    .option('--sparsity <s>', 'of layers and training steps, by commas', sparsities)
    .option('--seconds <s>', 'timed seconds a contestant of the training steps', amount)
    .option('--rounds <n>', 'turns a contestant takes in the training steps', count)
    .option('--shapes <names>', `layers: some of ${shapeFiles.join(',')}`, shapesOf)
    .option('--repetitions <n>', 'of each pass of a layer', count)
    .option('--out <directory>', 'instead of bench/')
    .parse([...argv], { from: 'user' });
  const values = options.opts<Options>();
  const quick = values.quick ?? false;
  const settings: Settings = {
    quick,
    threads: values.threads ?? native().session.cpu().cores,
    archs: values.arch ?? (quick ? ['resnet20'] : ['resnet20', 'resnet56', 'vgg16', 'wrn50']),
    ratios: quick ? ['erk'] : ['uniform', 'erk'],
    densities: (values.sparsity ?? (quick ? [0.9] : [0.5, 0.9, 0.95])).map(sparsityToDensity),
    seconds: values.seconds ?? (quick ? 0.5 : 10),
    rounds: values.rounds ?? (quick ? 2 : 5),
    repetitions: values.repetitions ?? (quick ? 3 : 9),
    shapes: values.shapes ?? (quick ? ['resnet20'] : ['resnet20', 'vgg16', 'wrn50']),
    sparsities: values.sparsity
      ? [...new Set([0, ...values.sparsity])]
      : quick
        ? [0, 0.9]
        : [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98],
  };
  const sections = values.only ?? SECTIONS;
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

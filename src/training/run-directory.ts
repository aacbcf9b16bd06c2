/**
 * The record of one run: runs/<date>-<arch>-<ratio>-<sparsity>-<id>/ with config.yaml (reusable with -c), env.json,
 * metrics.jsonl, summary.csv, sparsity.csv, plan.json, checkpoints/ and result.json. A directory that holds anything
 * is never written to unless the run is resumed or told to replace it.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { stringify } from 'yaml';
import { type ExperimentConfig, sparsityOf } from '../config.js';
import { ConfigError, EnvironmentError } from '../errors.js';
import type { EpochEvent, ExperimentEvent, ExperimentResult, LayerRecord, PlannedEvent } from './events.js';
import { describeMachine } from './machine.js';

/** Version of the lines of metrics.jsonl; a reader refuses what it does not know. */
export const metricsSchemaVersion = 1;

const summaryColumns = [
  'epoch',
  'step',
  'train_loss',
  'train_accuracy',
  'test_loss',
  'test_accuracy',
  'validation_loss',
  'validation_accuracy',
  'lr',
  'images_per_second',
  'seconds',
] as const;

const csvRow = (cells: readonly (string | number | null)[]) =>
  `${cells.map((cell) => cell ?? '').join(',')}\n`;

/** Files appear whole or not at all. */
function writeWhole(file: string, text: string): void {
  const temporary = `${file}.${process.pid}.tmp`;
  fs.writeFileSync(temporary, text);
  fs.renameSync(temporary, file);
}

/** The directory's name: date, network, policy, sparsity, and four letters so that no two runs share it. */
export function runName(config: ExperimentConfig, now = new Date()): string {
  const date = now.toISOString().slice(0, 10);
  const ratio = config.ratio.startsWith('file:') ? 'file' : config.ratio;
  return `${date}-${config.arch}-${ratio}-${sparsityOf(config)}-${randomBytes(3).toString('hex')}`;
}

export class RunDirectory {
  private metrics: number | undefined;

  private constructor(readonly path: string) {}

  /** Makes the directory `config.outputDir` names, or a new one under runs/. */
  static create(config: ExperimentConfig): RunDirectory {
    const directory = path.resolve(config.outputDir ?? path.join('runs', runName(config)));
    let entries: string[] = [];
    try {
      entries = fs.readdirSync(directory);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOTDIR')
        throw new ConfigError(`--output-dir ${directory}: is a file; give a directory.`);
      if (code !== 'ENOENT') throw error;
    }
    if (entries.length > 0) {
      if (!config.overwrite) {
        throw new ConfigError(
          `--output-dir ${directory}: not empty. Continue it with \`rp resume ${directory}\`, replace it with --overwrite, or give another directory.`,
        );
      }
      // Only ever a run of ours: --overwrite with a mistyped path must not empty somebody's home.
      if (!entries.includes('config.yaml') || !entries.includes('env.json')) {
        throw new ConfigError(
          `--overwrite ${directory}: not empty, and not a run directory; nothing was removed.`,
        );
      }
      fs.rmSync(directory, { recursive: true });
    }
    try {
      fs.mkdirSync(path.join(directory, 'checkpoints'), { recursive: true });
    } catch (error) {
      throw new EnvironmentError(`--output-dir ${directory}: ${(error as Error).message}`);
    }
    return new RunDirectory(directory);
  }

  /** Opens the directory of an earlier run, to go on from `step`: what was logged after it will happen again. */
  static resume(directory: string, step: number): RunDirectory {
    const run = new RunDirectory(path.resolve(directory));
    if (!fs.existsSync(run.file('config.yaml'))) {
      throw new ConfigError(`${directory}: not a run directory (it has no config.yaml).`);
    }
    run.rewind(step);
    return run;
  }

  file(name: string): string {
    return path.join(this.path, name);
  }

  get checkpoints(): string {
    return this.file('checkpoints');
  }

  /** The files that one event is recorded in. */
  record(event: ExperimentEvent): void {
    if (event.type === 'planned') this.recordPlan(event);
    else this.logMetrics(event);
    if (event.type === 'epoch') this.logEpoch(event);
  }

  writeResult(result: ExperimentResult): void {
    writeWhole(this.file('result.json'), `${JSON.stringify(result, null, 2)}\n`);
  }

  close(): void {
    if (this.metrics !== undefined) fs.closeSync(this.metrics);
    this.metrics = undefined;
  }

  private recordPlan(event: PlannedEvent): void {
    const { config } = event;
    if (event.firstStep === 0) {
      writeWhole(this.file('plan.json'), event.plan);
      const reusable = { ...config, plan: 'plan.json', outputDir: null, overwrite: false };
      const head = `# A finished configuration: repeat this run with \`rp run -c ${path.join(this.path, 'config.yaml')}\`.\n`;
      writeWhole(this.file('config.yaml'), head + stringify(reusable));
      writeWhole(this.file('sparsity.csv'), sparsityCsv(event.layers));
    }
    const machine = { ...describeMachine(), seed: config.seed, mask_sha256: event.maskHash };
    const name = event.firstStep === 0 ? 'env.json' : `env-from-step-${event.firstStep}.json`;
    writeWhole(this.file(name), `${JSON.stringify(machine, null, 2)}\n`);
    const { plan: _text, layers: _rows, ...logged } = event;
    this.logMetrics({ ...logged, config: undefined });
  }

  private logMetrics(event: object): void {
    if (this.metrics === undefined) {
      const name = this.file('metrics.jsonl');
      const fresh = !fs.existsSync(name);
      this.metrics = fs.openSync(name, 'a');
      if (fresh)
        fs.writeSync(
          this.metrics,
          `${JSON.stringify({ schema: metricsSchemaVersion, tool: 'random-pruning' })}\n`,
        );
    }
    // One write a line, unbuffered: a killed run keeps every line it logged.
    fs.writeSync(this.metrics, `${JSON.stringify({ ...event, time: new Date().toISOString() })}\n`);
  }

  private logEpoch({ epoch, step, train, test, validation, lr, imagesPerSecond, seconds }: EpochEvent): void {
    const name = this.file('summary.csv');
    if (!fs.existsSync(name)) fs.writeFileSync(name, csvRow(summaryColumns));
    const held = [test?.loss, test?.accuracy, validation?.loss, validation?.accuracy].map(
      (value) => value ?? null,
    );
    fs.appendFileSync(
      name,
      csvRow([epoch, step, train.loss, train.accuracy, ...held, lr, imagesPerSecond, seconds]),
    );
  }

  /** Drops what was logged after `step`, and a line that a killed process left unfinished. */
  private rewind(step: number): void {
    const keep = (name: string, wanted: (line: string) => boolean) => {
      const file = this.file(name);
      if (!fs.existsSync(file)) return;
      const lines = fs.readFileSync(file, 'utf8').split('\n').slice(0, -1);
      writeWhole(
        file,
        lines
          .filter(wanted)
          .map((line) => `${line}\n`)
          .join(''),
      );
    };
    keep('metrics.jsonl', (line) => {
      try {
        return ((JSON.parse(line) as { step?: number }).step ?? 0) <= step;
      } catch {
        return false;
      }
    });
    keep('summary.csv', (line) => !(Number(line.split(',')[1]) > step));
  }
}

function sparsityCsv(layers: readonly LayerRecord[]): string {
  const rows = layers.map(({ name, shape, numel, nnz, density, macs, kernel, tiles, measured }) =>
    csvRow([name, shape.join('x'), numel, nnz, density, macs, kernel, tiles, measured]),
  );
  return (
    csvRow(['layer', 'shape', 'params', 'nnz', 'density', 'macs', 'kernel', 'tiles', 'measured']) +
    rows.join('')
  );
}

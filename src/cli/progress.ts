/**
 * Progress of a run on stderr: a bar that redraws itself on a terminal, plain lines in a file or under CI. Colour
 * follows NO_COLOR. Rates are measured; FLOPs ratios are called arithmetic, because they are no speed-up.
 */

import type { EpochEvent, ExperimentEvent, PlannedEvent, ProgressEvent } from '../training/events.js';
import { bytesText } from '../units.js';
import { type Cli, durationText, grouped, type OutputFlags, table } from './cli.js';

const barCells = 24;
const percent = (share: number) => `${(100 * share).toFixed(2)}%`;

export class Progress {
  private readonly live: boolean;
  private readonly colour: boolean;
  private drawn = false;
  /** Where the measured rate starts from, for the time left. */
  private started: { time: number; step: number } | undefined;

  constructor(
    private readonly cli: Cli,
    private readonly flags: OutputFlags,
    /** Seconds; tests bring their own. */
    private readonly clock: () => number = () => performance.now() / 1000,
  ) {
    const terminal = cli.stderr.isTTY === true && !cli.env.CI;
    this.live = terminal && flags.progress && !flags.quiet;
    this.colour = terminal && !cli.env.NO_COLOR;
  }

  show(event: ExperimentEvent): void {
    if (event.type === 'planned') this.planned(event);
    else if (event.type === 'progress') this.step(event);
    else if (event.type === 'epoch') this.epoch(event);
    else if (event.type === 'notice') this.line(event.message);
    else if (this.flags.verbose) {
      this.line(
        `saved step ${event.step}: ${event.path} (${bytesText(event.bytes)}, dense ${bytesText(event.denseBytes)})`,
      );
    }
  }

  /** A line of its own, above the bar. */
  line(text: string): void {
    if (this.flags.quiet) return;
    this.clear();
    this.cli.stderr.write(`${text}\n`);
  }

  /** Takes the bar off the screen. */
  clear(): void {
    if (this.drawn) this.cli.stderr.write('\r\x1b[2K');
    this.drawn = false;
  }

  private planned(event: PlannedEvent): void {
    this.started = { time: this.clock(), step: event.firstStep };
    const { config, layers } = event;
    if (config.outputDir) this.line(`run directory: ${config.outputDir}`);
    const nnz = layers.reduce((sum, layer) => sum + layer.nnz, 0);
    const numel = layers.reduce((sum, layer) => sum + layer.numel, 0);
    this.line(
      `${config.arch} · ${config.ratio} · kept ${grouped(nnz)} of ${grouped(numel)} prunable weights (${percent(nnz / numel)})`,
    );
    this.line(`mask sha256 ${event.maskHash}`);
    this.line(`data ${event.data.name}: ${event.data.description}`);
    this.line(
      `engine ${event.engine}: batch ${config.batchSize}${config.accumulate > 1 ? ` × ${config.accumulate}` : ''}, ` +
        `${bytesText(event.memoryBytes)} planned; ${grouped(event.totalSteps)} steps, ${grouped(event.stepsPerEpoch)} an epoch` +
        (event.firstStep > 0 ? `; going on from step ${grouped(event.firstStep)}` : ''),
    );
    this.line(
      `FLOPs ${event.flopsRatio.toFixed(4)} of dense (arithmetic of the masks; what it gives in time is measured below)`,
    );
    if (this.flags.verbose) {
      const rows = layers.map((layer) => [
        layer.name,
        layer.shape.join('×'),
        layer.nnz,
        layer.density.toFixed(4),
        layer.kernel,
        layer.tiles,
        layer.measured,
      ]);
      const head = ['layer', 'shape', 'nnz', 'density', 'kernel', 'tiles', 'measured'];
      this.line(table([head, ...rows]).trimEnd());
    }
  }

  private step(event: ProgressEvent): void {
    if (!this.flags.progress || this.flags.quiet) return;
    const { time, step } = this.started ?? { time: this.clock(), step: event.step };
    const left = ((this.clock() - time) / (event.step - step)) * (event.totalSteps - event.step);
    const text = [
      `epoch ${event.epoch}/${event.epochs}`,
      `step ${event.step}/${event.totalSteps}`,
      `loss ${event.loss.toFixed(4)}`,
      `acc ${percent(event.accuracy)}`,
      `lr ${Number(event.lr.toPrecision(4))}`,
      `${event.imagesPerSecond.toFixed(0)} img/s`,
      `wait ${(100 * event.waitShare).toFixed(1)}%`,
      bytesText(process.memoryUsage.rss()),
      `ETA ${durationText(left)}`,
    ];
    if (!this.live) {
      this.cli.stderr.write(`${text.join('  ')}\n`);
      return;
    }
    const done = Math.round((barCells * event.step) / event.totalSteps);
    const bar = '━'.repeat(done) + ' '.repeat(barCells - done);
    const room = Math.max(20, (this.cli.stderr.columns ?? 120) - barCells - 2);
    const words = text.join('  ').slice(0, room);
    this.cli.stderr.write(`\r\x1b[2K${this.colour ? `\x1b[32m${bar}\x1b[0m` : bar} ${words}`);
    this.drawn = true;
  }

  private epoch(event: EpochEvent): void {
    if (!this.flags.progress) return;
    const held = (name: string, value: EpochEvent['test']) =>
      value ? `  ${name} loss ${value.loss.toFixed(4)} acc ${percent(value.accuracy)}` : '';
    this.line(
      `epoch ${event.epoch}/${event.epochs}  train loss ${event.train.loss.toFixed(4)} acc ${percent(event.train.accuracy)}` +
        `${held('validation', event.validation)}${held('test', event.test)}  ` +
        `${event.imagesPerSecond.toFixed(0)} img/s  ${durationText(event.seconds)}`,
    );
  }
}

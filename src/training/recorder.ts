/** Where a run's events, checkpoints and result go: its directory if it has one, and whoever listens. */
import { rmdirSync } from 'node:fs';
import path from 'node:path';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { type SavedCheckpoint, saveCheckpoint } from '../checkpoint/save.js';
import type { ExperimentConfig } from '../config.js';
import type { ExperimentEvent, ExperimentResult } from './events.js';
import type { CheckpointName } from './loop.js';
import type { RunDirectory } from './run-directory.js';

export class Recorder {
  /** The last file written as `last`. */
  last: SavedCheckpoint | null = null;
  /** What came before the plan stood: recorded with it, since a run that fails earlier leaves no directory. */
  private early: ExperimentEvent[] | null = [];

  constructor(
    readonly directory: RunDirectory | null,
    private readonly onEvent: (event: ExperimentEvent) => void,
  ) {}

  readonly emit = (event: ExperimentEvent): void => {
    this.onEvent(event);
    if (event.type !== 'planned' && this.early) {
      this.early.push(event);
      return;
    }
    for (const known of [event, ...(this.early ?? [])]) this.directory?.record(known);
    this.early = null;
  };

  readonly notice = (message: string): void => this.emit({ type: 'notice', message });

  get path(): string | null {
    return this.directory?.path ?? null;
  }

  /** Writes `checkpoints/<name>.rpck`. */
  async write(name: CheckpointName, checkpoint: Checkpoint, config: ExperimentConfig): Promise<void> {
    if (!this.directory) return;
    const file = path.join(this.directory.checkpoints, `${name}.rpck`);
    const saved = await saveCheckpoint(file, checkpoint, { keep: name === 'last' ? config.keep : 1 });
    if (name === 'last') this.last = saved;
    const { bytes, denseBytes } = saved;
    this.emit({ type: 'checkpoint', path: file, step: checkpoint.position.step, bytes, denseBytes });
  }

  writeResult(result: ExperimentResult): void {
    this.directory?.writeResult(result);
  }

  close(): void {
    this.directory?.close();
  }

  /** A new run's end: a directory that nothing was recorded in is removed again. */
  finish(): void {
    this.close();
    if (!this.directory || this.early === null) return;
    rmdirSync(this.directory.checkpoints);
    rmdirSync(this.directory.path);
  }
}

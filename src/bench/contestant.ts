/** A contestant: a child process that trains steps when it is told to, so that contestants can take turns. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { ProfileEvent } from '../engine/session.js';
import { RunError } from '../errors.js';

export interface ContestantSpec {
  /** "ours dense", "ours erk 0.9", "oneDNN", "PyTorch channels_last" … */
  readonly name: string;
  readonly kind: 'ours' | 'onednn' | 'pytorch';
  readonly precision: 'fp32' | 'bf16';
  /** Absent: dense. */
  readonly sparse?: { readonly ratio: string; readonly density: number };
  readonly command: string;
  readonly args: readonly string[];
}

export interface Block {
  readonly seconds: readonly number[];
  readonly losses: readonly number[];
  readonly peak_bytes: number | null;
}

export class Contestant {
  #child: ChildProcess;
  #lines: AsyncIterator<string>;
  #errors = '';
  version = '';

  private constructor(readonly spec: ContestantSpec) {
    this.#child = spawn(spec.command, spec.args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      // A core a thread, as ours has it.
      env: { ...process.env, OMP_PROC_BIND: 'true' },
    });
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#child.stdin!.on('error', () => undefined); // it ended: said when its answer is missing
    this.#child.stderr!.on('data', (text: Buffer) => {
      this.#errors = (this.#errors + text.toString()).slice(-2000);
    });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** @throws {RunError} with what it said, when it does not start. */
  static async start(spec: ContestantSpec): Promise<Contestant> {
    const contestant = new Contestant(spec);
    contestant.version = ((await contestant.#answer()) as { version: string }).version;
    return contestant;
  }

  async #answer(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (!done) return JSON.parse(value as string);
    throw new RunError(`[bench] ${this.spec.name} ended early: ${this.#errors.trim() || 'it said nothing'}`);
  }

  steps(count: number): Promise<Block> {
    this.#child.stdin!.write(`steps ${count}\n`);
    return this.#answer() as Promise<Block>;
  }

  /** The dense network's loss under a mask (src/bench/ours.ts). */
  async maskedLoss({ ratio, density }: { ratio: string; density: number }): Promise<number> {
    this.#child.stdin!.write(`masked ${ratio} ${density}\n`);
    return ((await this.#answer()) as { loss: number }).loss;
  }

  /** The ops of `count` more steps; ours only (src/bench/ours.ts). */
  async profile(count: number): Promise<readonly ProfileEvent[]> {
    this.#child.stdin!.write(`profile ${count}\n`);
    return ((await this.#answer()) as { events: ProfileEvent[] }).events;
  }

  /** Ends the process and waits for its end. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.pid === undefined) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
  }
}

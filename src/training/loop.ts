/**
 * The training loop: chunks of steps that run natively, an evaluation an epoch, checkpoints, and a stop that is never
 * in the middle of a step. Everything that decides a weight is a function of the configuration and the step, so where
 * chunks end changes nothing. The best epoch is chosen by held-out training images, never by the test set.
 */
import type { Best, Position } from '../checkpoint/checkpoint.js';
import { type ExperimentConfig, saveInterval } from '../config.js';
import type { BatchStream, Session } from '../engine/session.js';
import { RunError } from '../errors.js';
import type { Evaluation, ExperimentEvent } from './events.js';
import { learningRate, learningRates } from './schedules.js';

/** What the loop must know of the training batches; a data loader has it all. */
export interface TrainingStream extends BatchStream {
  /** Images of one epoch, those dropped at its end included. */
  readonly images: number;
  readonly batchSize: number;
  readonly accumulate: number;
}

export interface LoopData {
  readonly train: TrainingStream;
  readonly test: BatchStream;
  /** Held-out training images, or null. */
  readonly validation: BatchStream | null;
}

export type CheckpointName = 'last' | 'best';

/** Where a run stands: what a checkpoint holds beside the tensors. */
export interface Progress {
  readonly position: Position;
  readonly best: Best | null;
}

export interface FitOptions {
  readonly session: Session;
  readonly data: LoopData;
  readonly config: LoopConfig;
  readonly start: Progress;
  /**
   * Reads the session's state, then resolves to the writing of it: the loop waits for the reading alone and trains on
   * meanwhile. Null: no checkpoints.
   */
  readonly save: ((name: CheckpointName, progress: Progress) => Promise<{ written: Promise<void> }>) | null;
  readonly emit: (event: ExperimentEvent) => void;
  readonly signal?: AbortSignal | undefined;
}

export type LoopConfig = Pick<
  ExperimentConfig,
  | ('epochs' | 'maxSteps' | 'logInterval' | 'evalEvery' | 'saveEvery' | 'protocol')
  | ('lr' | 'warmupEpochs' | 'milestones' | 'lrDecay' | 'momentum' | 'nesterov' | 'labelSmoothing')
>;

export interface FitResult extends Progress {
  readonly status: 'done' | 'stopped';
  /** Of the final weights; null when the run was stopped. */
  readonly test: Evaluation | null;
}

/** The position before the first step. */
export function startPosition(stepsPerEpoch: number, epochs: number): Position {
  return {
    ...{
      step: 0,
      stepsPerEpoch,
      epochs,
      numBatchesTracked: 0,
      epochLossSum: 0,
      epochImages: 0,
      epochCorrect: 0,
    },
    ...{ images: 0, seconds: 0, trainLoss: null, bestTestAccuracy: null },
  };
}

/** Optimiser steps of the whole run. */
export function totalSteps(
  { epochs, maxSteps }: Pick<LoopConfig, 'epochs' | 'maxSteps'>,
  perEpoch: number,
): number {
  return Math.min(epochs * perEpoch, maxSteps ?? Number.POSITIVE_INFINITY);
}

/**
 * Trains from `start` to the end, or until the signal aborts: then the step is finished and the state saved.
 * @throws {RunError} naming step and layer when a loss or gradient is not finite; that step is not applied and the
 *   last checkpoint stays as it was.
 */
export function trainSession(options: FitOptions): Promise<FitResult> {
  return new Loop(options).run();
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class Loop {
  private readonly position: Mutable<Position>;
  private best: Best | null;
  private readonly end: number;
  private readonly perEpoch: number;
  /** The evaluation of the present weights on the test set. */
  private test: { readonly step: number; readonly result: Evaluation } | null = null;
  /** Since the last progress event. */
  private window = { lossSum: 0, images: 0, correct: 0, seconds: 0, waited: 0 };
  /** Since the epoch began, in this process. */
  private epochSeconds = 0;
  private saving: Promise<void> = Promise.resolve();
  private savedStep: number | null = null;

  constructor(private readonly options: FitOptions) {
    const { start, config, data } = options;
    this.position = { ...start.position };
    this.best = start.best;
    this.perEpoch = data.train.stepsPerEpoch;
    this.end = totalSteps(config, this.perEpoch);
  }

  async run(): Promise<FitResult> {
    const { session, data, signal } = this.options;
    session.attach(data.train);
    try {
      for (;;) {
        if (this.epochIsFull && !(await this.endEpoch())) break;
        if (this.position.step >= this.end || signal?.aborted) break;
        await this.runChunk();
        if (!this.epochIsFull && this.isSaveStep) await this.save('last');
      }
      const test = signal?.aborted ? null : await this.finalTest();
      if (this.savedStep !== this.position.step) await this.save('last');
      await this.saving;
      return { status: test === null ? 'stopped' : 'done', position: this.position, best: this.best, test };
    } finally {
      // Whatever ended the run, a file being written is finished first. Its own failure has been thrown, or will be.
      await this.saving.catch(() => {});
    }
  }

  /** All steps of an epoch are done, its evaluation is not: here, or where a stopped run left off. */
  private get epochIsFull(): boolean {
    return this.position.epochImages > 0 && this.position.step % this.perEpoch === 0;
  }

  /** From 1; the one that the last step done belongs to. */
  private get epoch(): number {
    return Math.max(1, Math.ceil(this.position.step / this.perEpoch));
  }

  private get isSaveStep(): boolean {
    const { unit, every } = saveInterval(this.options.config.saveEvery);
    return unit === 'step' && this.position.step % every === 0;
  }

  /** Steps up to the next place where something is due. */
  private async runChunk(): Promise<void> {
    const { session, config, signal } = this.options;
    const { position, perEpoch } = this;
    const { unit, every } = saveInterval(config.saveEvery);
    const firstStep = position.step;
    const due = [config.logInterval, perEpoch, ...(unit === 'step' ? [every] : [])];
    const next = Math.min(
      this.end,
      ...due.map((interval) => (Math.floor(firstStep / interval) + 1) * interval),
    );
    const result = await session.run({
      firstStep,
      steps: next - firstStep,
      lr: learningRates(config, firstStep, next - firstStep, perEpoch),
      momentum: config.momentum,
      nesterov: config.nesterov,
      labelSmoothing: config.labelSmoothing,
      ...(signal ? { signal } : {}),
    });
    const { window } = this;
    for (const [i, loss] of result.stepLosses.entries()) {
      // Step by step, so that sums do not depend on where chunks end.
      const images = this.imagesOf(firstStep + i);
      position.epochLossSum += loss * images;
      position.epochImages += images;
      position.images += images;
      position.numBatchesTracked += Math.ceil(images / this.options.data.train.batchSize);
      window.lossSum += loss * images;
      window.images += images;
    }
    position.step += result.stepsDone;
    position.epochCorrect += result.correct;
    position.seconds += result.seconds;
    window.correct += result.correct;
    window.seconds += result.seconds;
    window.waited += result.waitSeconds;
    this.epochSeconds += result.seconds;
    if (result.failure) throw nonFinite(result.failure);
    if (position.step % config.logInterval === 0 || this.epochIsFull || position.step === this.end)
      this.report();
  }

  private imagesOf(step: number): number {
    const { images, batchSize, accumulate } = this.options.data.train;
    const whole = batchSize * accumulate;
    return Math.min(whole, images - (step % this.perEpoch) * whole);
  }

  private report(): void {
    const { lossSum, images, correct, seconds, waited } = this.window;
    if (images === 0) return;
    const { config, emit } = this.options;
    emit({
      ...{ type: 'progress', epoch: this.epoch, epochs: config.epochs, step: this.position.step },
      ...{ totalSteps: this.end, loss: lossSum / images, accuracy: correct / images },
      lr: learningRate(config, this.epoch - 1),
      imagesPerSecond: images / seconds,
      waitShare: waited / seconds,
    });
    this.window = { lossSum: 0, images: 0, correct: 0, seconds: 0, waited: 0 };
  }

  /** Evaluates, reports and saves a full epoch; false: stopped before it could. */
  private async endEpoch(): Promise<boolean> {
    const { config, data, emit, signal } = this.options;
    const { position, epoch } = this;
    const evaluates = epoch % config.evalEvery === 0 || epoch === config.epochs;
    let validation: Evaluation | null = null;
    try {
      if (evaluates) {
        this.test = { step: position.step, result: await this.evaluate(data.test) };
        if (data.validation) validation = await this.evaluate(data.validation);
      }
    } catch (error) {
      if (signal?.aborted) return false;
      throw error;
    }
    const test = evaluates ? this.test!.result : null;
    const train = {
      loss: position.epochLossSum / position.epochImages,
      accuracy: position.epochCorrect / position.epochImages,
    };
    emit({
      ...{ type: 'epoch', epoch, epochs: config.epochs, step: position.step, train, test, validation },
      lr: learningRate(config, epoch - 1),
      imagesPerSecond: this.epochSeconds > 0 ? position.epochImages / this.epochSeconds : 0,
      seconds: this.epochSeconds,
    });
    this.epochSeconds = 0;
    Object.assign(position, { epochLossSum: 0, epochImages: 0, epochCorrect: 0, trainLoss: train.loss });
    if (test && config.protocol === 'code' && !data.validation) {
      position.bestTestAccuracy = Math.max(position.bestTestAccuracy ?? 0, test.accuracy);
    }
    if (test && validation && validation.accuracy > (this.best?.accuracy ?? -1)) {
      this.best = { epoch, ...validation, testAccuracy: test.accuracy, testLoss: test.loss };
      await this.save('best');
    }
    const { unit, every } = saveInterval(config.saveEvery);
    if ((unit === 'epoch' && epoch % every === 0) || this.isSaveStep) await this.save('last');
    return true;
  }

  private async finalTest(): Promise<Evaluation | null> {
    const { data, signal } = this.options;
    if (this.test?.step === this.position.step) return this.test.result;
    try {
      return await this.evaluate(data.test);
    } catch (error) {
      if (signal?.aborted) return null;
      throw error;
    }
  }

  private async evaluate(stream: BatchStream): Promise<Evaluation> {
    const { session, signal } = this.options;
    const { nll, accuracy } = await session.evaluateStream(stream, signal ? { signal } : {});
    return { loss: nll, accuracy };
  }

  private async save(name: CheckpointName): Promise<void> {
    await this.saving; // one at a time; throws where the one before failed
    if (!this.options.save) return;
    const progress = { position: { ...this.position }, best: this.best };
    const { written } = await this.options.save(name, progress);
    this.saving = written;
    written.catch(() => {}); // thrown where it is awaited: by the next save, or at the end
    if (name === 'last') this.savedStep = progress.position.step;
  }
}

function nonFinite({ step, layer }: { readonly step: number; readonly layer: string }): RunError {
  return new RunError(
    `[${layer}] expected a finite loss and finite gradients, got NaN or infinity in step ${step + 1}, first in this layer. ` +
      'The step was not applied and the last checkpoint is as it was. Try a smaller --lr, or --warmup-epochs.',
  );
}

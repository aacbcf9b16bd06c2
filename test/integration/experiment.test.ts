import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import {
  CorruptError,
  EnvironmentError,
  type ExperimentEvent,
  type ExperimentHooks,
  type ExperimentOptions,
  evaluateCheckpoint,
  experimentConfig,
  GraphBuilder,
  loadCheckpoint,
  modelOf,
  RunError,
  resumeExperiment,
  runExperiment,
  type ShapePolicy,
  UsageError,
} from 'random-pruning';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { engines } from '../helpers/engines.js';
import { tinyData, tinyOptions } from '../helpers/experiments.js';

let root: string;
beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), 'rp-experiment-'));
});
afterEach(() => fs.rm(root, { recursive: true }));

const dataset = tinyData();
const last = (directory: string) => path.join(directory, 'checkpoints', 'last.rpck');

function run(name: string, options: ExperimentOptions = {}, hooks: ExperimentHooks = {}) {
  const config = experimentConfig({ ...tinyOptions, outputDir: path.join(root, name), ...options });
  return runExperiment(config, { dataset, ...hooks });
}

/** Hooks that stop a run once it has done `step` steps. */
function stopAfter(step: number): ExperimentHooks {
  const controller = new AbortController();
  const onEvent = (event: ExperimentEvent) => {
    if (event.type === 'progress' && event.step >= step) controller.abort('SIGINT');
    if (event.type === 'planned' && step === 0) controller.abort('SIGINT');
  };
  return { signal: controller.signal, onEvent };
}

describe.each(engines)('an experiment on %s', (device) => {
  it('goes on bit for bit from every step of a 20-step run, in mid-epoch too', async () => {
    const whole = await run('whole', { device });
    expect(whole).toMatchObject({ status: 'done', steps: 20, epochs: 4, best: null });
    for (let step = 0; step < 20; step++) {
      const stopped = await run(`stop-${step}`, { device }, stopAfter(step));
      expect(stopped, `stop after step ${step}`).toMatchObject({ status: 'stopped', steps: step });
      const resumed = await resumeExperiment(stopped.run_dir!, { dataset });
      expect(resumed.weights_sha256, `resumed from step ${step}`).toBe(whole.weights_sha256);
      expect(resumed.final).toEqual(whole.final);
      const [a, b] = await Promise.all([
        loadCheckpoint(last(whole.run_dir!)),
        loadCheckpoint(last(resumed.run_dir!)),
      ]);
      expect(b.params).toEqual(a.params);
      expect(b.buffers).toEqual(a.buffers);
      expect({ ...b.position, seconds: 0 }).toEqual({ ...a.position, seconds: 0 });
      await fs.rm(stopped.run_dir!, { recursive: true });
    }
  });

  it('overfits one batch', async () => {
    const one = tinyData(4, 16, 16);
    const options: ExperimentOptions = {
      device,
      epochs: 160,
      milestones: [120],
      weightDecay: 0,
      saveEvery: '160ep',
    };
    const result = await run('overfit', options, { dataset: one });
    expect(result.final.train_loss).toBeLessThan(0.1);
    expect(result.final.test_accuracy).toBeGreaterThan(0.5);
  });

  it('gives the same weights for other numbers of threads, workers, and chunk lengths', async () => {
    const result = await run('a', { device, epochs: 2 });
    const other = await run('b', {
      device,
      epochs: 2,
      threads: 2,
      workers: 3,
      logInterval: 7,
      saveEvery: '3it',
    });
    expect(other.weights_sha256).toBe(result.weights_sha256);
    expect(other.final).toEqual(result.final);
  });

  it('evaluates a checkpoint to the figures of its run', async () => {
    const result = await run('run', { device, ratio: 'uniform', sparsity: 0.9 });
    const report = await evaluateCheckpoint(result.checkpoint!, { dataset });
    expect(report).toMatchObject({
      accuracy: result.final.test_accuracy,
      nll: result.final.test_loss,
      weights_sha256: result.weights_sha256,
      mask_sha256: result.mask_sha256,
      images: 24,
      epoch: 4,
    });
    expect(report.density).toBeCloseTo(0.1, 1);
    expect(result.checkpoint_bytes).toBe((await fs.stat(result.checkpoint!)).size);
    expect(result.checkpoint_dense_bytes).toBeGreaterThan(result.checkpoint_bytes!);
    expect(await evaluateCheckpoint(result.run_dir!, { dataset, batchSize: 5 })).toMatchObject({
      images: 24,
    });
    const [other] = engines.filter((engine) => engine !== device);
    const elsewhere = await evaluateCheckpoint(result.run_dir!, { dataset, device: other! });
    expect(elsewhere.nll).toBeCloseTo(result.final.test_loss!, 4);
  });

  it('keeps the pruned weights pruned and stores none of them', async () => {
    const result = await run('run', { device, sparsity: 0.9 });
    const { graph, masks, params, maskRecipe } = await loadCheckpoint(result.checkpoint!);
    const prunable = graph.params.map((param, i) => ({ param, i })).filter(({ param }) => param.prunable);
    for (const [l, { param, i }] of prunable.entries()) {
      expect(params[i]!.values.length, param.name).toBe(masks[i]?.nnz ?? param.numel);
      if (maskRecipe!.densities[l] === 1) expect(masks[i]).toBeNull();
    }
  });

  it('measures snip and grasp on the training images, and keeps the positions of snip where asked', async () => {
    const notices: string[] = [];
    const onEvent = (event: ExperimentEvent) => event.type === 'notice' && notices.push(event.message);
    const snip = await run('snip', { device, ratio: 'snip', epochs: 1 }, { onEvent });
    const kept = await run('kept', { device, ratio: 'snip', snipKeepMask: true, epochs: 1 }, { onEvent });
    const grasp = await run('grasp', { device, ratio: 'grasp', samplesPerClass: 4, epochs: 1 }, { onEvent });
    expect(new Set([snip, kept, grasp].map(({ mask_sha256 }) => mask_sha256)).size).toBe(3);
    expect(notices.join('\n')).toMatch(/snip measured on 16 images/);
    expect(notices.join('\n')).toMatch(/grasp measured on 8 images .* and 8 images/);
    expect((await loadCheckpoint(kept.checkpoint!)).maskRecipe!.sampler).toBe('criterion');
    expect((await resumeExperiment(kept.run_dir!, { dataset })).weights_sha256).toBe(kept.weights_sha256);
  });

  it('stops at NaN with layer and step, and leaves the last checkpoint as it was', async () => {
    const options: ExperimentOptions = { device, lr: 1e30, saveEvery: '1it', warmupEpochs: 0 };
    const error = await run('nan', options).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(RunError);
    expect(error.message).toMatch(
      /^\[[\w.]+\] expected a finite loss and finite gradients, got NaN or infinity in step \d+/,
    );
    const failed = Number(/in step (\d+)/.exec(error.message)![1]);
    if (failed > 1)
      expect((await loadCheckpoint(last(path.join(root, 'nan')))).position.step).toBe(failed - 1);
  });
});

describe('an experiment', () => {
  const device = engines[0]!;

  it('holds out the last tenth under protocol code and tests the epoch it chose', async () => {
    const events: ExperimentEvent[] = [];
    const onEvent = (event: ExperimentEvent) => events.push(event);
    const result = await run('code', { device, protocol: 'code' }, { onEvent });
    const epochs = events.filter((event) => event.type === 'epoch');
    const best = epochs.reduce((a, b) => (b.validation!.accuracy > a.validation!.accuracy ? b : a));
    expect(result.best).toEqual({
      epoch: best.epoch,
      validation_accuracy: best.validation!.accuracy,
      test_accuracy: best.test!.accuracy,
      test_loss: best.test!.loss,
    });
    expect(result.code_protocol).toBeNull();
    expect(events.find((event) => event.type === 'planned')).toMatchObject({ trainImages: 65 });
    const chosen = await evaluateCheckpoint(path.join(result.run_dir!, 'checkpoints', 'best.rpck'), {
      dataset,
    });
    expect(chosen.accuracy).toBe(best.test!.accuracy);
  });

  it("reports the code's best test epoch apart where it holds nothing out, and chooses nothing by it", async () => {
    const cifar100 = { ...dataset, name: 'cifar100' };
    const result = await run('code', { device, protocol: 'code' }, { dataset: cifar100 });
    expect(result.best).toBeNull();
    expect(result.code_protocol!.best_test_accuracy).toBeGreaterThanOrEqual(result.final.test_accuracy!);
    expect(await fs.readdir(path.join(result.run_dir!, 'checkpoints'))).not.toContain('best.rpck');
  });

  it('accumulates groups to the same global batch', async () => {
    const events: ExperimentEvent[] = [];
    const options: ExperimentOptions = { device, batchSize: 8, accumulate: 2, epochs: 1 };
    const result = await run('groups', options, { onEvent: (event) => events.push(event) });
    expect(result.steps).toBe(5);
    const { position } = await loadCheckpoint(result.checkpoint!);
    expect(position.numBatchesTracked).toBe(9);
  });

  it('shrinks the group to fit the memory, says so, and refuses a given one that does not fit', async () => {
    const notices: string[] = [];
    const onEvent = (event: ExperimentEvent) => event.type === 'notice' && notices.push(event.message);
    const options: ExperimentOptions = { device, epochs: 1, memory: '2MB' };
    await expect(run('given', { ...options, batchSize: 64 })).rejects.toThrow(
      /--batch-size 64 needs .* The largest that fits is \d+: pass --batch-size \d+/,
    );
    await expect(fs.access(path.join(root, 'given'))).rejects.toThrow();
    const { batchSize: _, ...free } = tinyOptions;
    const config = experimentConfig({ ...free, ...options, outputDir: path.join(root, 'fits') });
    const events: ExperimentEvent[] = [];
    await runExperiment(config, {
      dataset,
      onEvent: (event) => {
        events.push(event);
        onEvent(event);
      },
    });
    const planned = events.find((event) => event.type === 'planned')!.config;
    expect(planned.batchSize).toBeLessThan(128);
    expect(planned.batchSize * planned.accumulate).toBe(128);
    expect(notices.join('\n')).toMatch(new RegExp(`taking ${planned.batchSize} × ${planned.accumulate}`));
  });

  it('trains a network of its own, and goes on with it from the checkpoint alone', async () => {
    const g = new GraphBuilder('own', [3, 8, 8]);
    const features = g.convBnRelu(g.input, { out: 6, kernel: 3, stride: 2 });
    const graph = g.build(g.linear(g.globalAvgPool(features), { out: 4, name: 'fc' }));
    const model = modelOf('own', graph);
    const options: ExperimentOptions = { device, arch: 'own', preset: 'cifar' };
    const whole = await run('whole', options, { model });
    const stopped = await run('stopped', options, { model, ...stopAfter(7) });
    const resumed = await resumeExperiment(stopped.run_dir!, { dataset });
    expect(resumed).toMatchObject({ arch: 'own', weights_sha256: whole.weights_sha256 });
  });

  it('takes a ratio policy of its own', async () => {
    const policy: ShapePolicy = {
      name: 'halves',
      description: 'half of every layer',
      needs: 'shapes',
      densities: (layers) => layers.map(() => 0.5),
    };
    const result = await run('own', { device, epochs: 1 }, { policy });
    const { maskRecipe } = await loadCheckpoint(result.checkpoint!);
    expect(result.ratio).toBe('halves');
    expect(new Set(maskRecipe!.densities)).toEqual(new Set([0.5]));
  });

  it('refuses a damaged checkpoint, and goes on from the one before when told to', async () => {
    const whole = await run('whole', { device });
    const bytes = await fs.readFile(last(whole.run_dir!));
    bytes[bytes.length >> 1]! ^= 4;
    await fs.writeFile(last(whole.run_dir!), bytes);
    const error = await resumeExperiment(whole.run_dir!, { dataset }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(CorruptError);
    const offered = /newest whole one beside it is (\S+) \(step 15\)/.exec(error.message)![1]!;
    const resumed = await resumeExperiment(offered, { dataset });
    expect(resumed.weights_sha256).toBe(whole.weights_sha256);
    expect(resumed.run_dir).toBe(whole.run_dir);
  });

  it('says which checkpoint it takes where a crash left no last one', async () => {
    const whole = await run('whole', { device });
    await fs.rm(last(whole.run_dir!));
    await fs.writeFile(path.join(whole.run_dir!, 'checkpoints', 'last.rpck.tmp'), 'half a file');
    const notices: string[] = [];
    const onEvent = (event: ExperimentEvent) => event.type === 'notice' && notices.push(event.message);
    const resumed = await resumeExperiment(whole.run_dir!, { dataset, onEvent });
    expect(resumed.weights_sha256).toBe(whole.weights_sha256);
    expect(notices[0]).toMatch(/There is no .*last\.rpck; going on from .*previous\.rpck \(step 15\)/);
    expect(notices[1]).toMatch(/Removed last\.rpck\.tmp/);
  });

  it('refuses other data than the run began with, and a directory without checkpoints', async () => {
    const { run_dir } = await run('run', { device, epochs: 1 });
    await expect(resumeExperiment(run_dir!, { dataset: tinyData(4, 200) })).rejects.toThrow(EnvironmentError);
    await expect(resumeExperiment(root, { dataset })).rejects.toThrow(EnvironmentError);
  });

  it('leaves no directory behind when nothing was trained', async () => {
    await expect(run('bad', { device, ratio: 'erk_plus', sparsity: 0.999 })).rejects.toThrow();
    const aborted = AbortSignal.abort('SIGINT');
    const error = await run('aborted', { device }, { signal: aborted }).catch((thrown) => thrown);
    expect(error.name).toBe('AbortError');
    await expect(run('classes', { device, classes: 7 })).rejects.toThrow(UsageError);
    expect(await fs.readdir(root)).toEqual([]);
  });

  it('runs without a directory where nothing is to be recorded', async () => {
    const result = await run('none', { device, epochs: 1 }, { record: false });
    expect(result).toMatchObject({ run_dir: null, checkpoint: null, status: 'done' });
    expect(await fs.readdir(root)).toEqual([]);
  });
});

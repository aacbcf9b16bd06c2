import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { fileLayer } from '../../src/cli/config-sources.js';
import { experimentConfig, resolveConfig } from '../../src/resolve-config.js';
import type { EpochEvent, PlannedEvent, ProgressEvent } from '../../src/training/events.js';
import { RunDirectory, runName } from '../../src/training/run-directory.js';

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'rp-runs-'));
});
afterEach(() => fs.rmSync(root, { recursive: true }));

const config = (outputDir: string, more = {}) =>
  experimentConfig({ arch: 'resnet20', ratio: 'erk', sparsity: 0.8, seed: 3, outputDir, ...more });

const planned = (outputDir: string, firstStep = 0): PlannedEvent => ({
  type: 'planned',
  config: config(outputDir),
  data: { name: 'synthetic', description: 'images', synthetic: true },
  layers: [
    {
      name: 'conv.weight',
      shape: [16, 3, 3, 3],
      numel: 432,
      density: 1,
      nnz: 432,
      macs: 442368,
      kernel: 'conv_ref',
      tiles: 'forward=1x1/3',
      measured: 'forward 9 GFLOP/s',
    },
  ],
  maskHash: 'ab',
  flopsRatio: 0.5,
  memoryBytes: 1,
  plan: '{}',
  engine: 'cpu',
  trainImages: 10,
  stepsPerEpoch: 5,
  totalSteps: 10,
  firstStep,
});
const progress = (step: number): ProgressEvent => ({
  type: 'progress',
  epoch: 1,
  epochs: 2,
  step,
  totalSteps: 10,
  loss: 2,
  accuracy: 0.1,
  lr: 0.1,
  imagesPerSecond: 1,
  waitShare: 0,
});
const epoch = (number: number): EpochEvent => ({
  type: 'epoch',
  epoch: number,
  epochs: 2,
  step: 5 * number,
  train: { loss: 2, accuracy: 0.1 },
  test: null,
  validation: null,
  lr: 0.1,
  imagesPerSecond: 1,
  seconds: 1,
});
const lines = (run: RunDirectory, name: string) =>
  fs.readFileSync(run.file(name), 'utf8').trimEnd().split('\n');

describe('RunDirectory', () => {
  it('names a run by date, network, policy and sparsity', () => {
    const name = runName(config('x'), new Date('2026-01-02T03:04:05Z'));
    expect(name).toMatch(/^2026-01-02-resnet20-erk-0\.8-[0-9a-f]{6}$/);
  });

  it('writes a configuration that reads back as itself', () => {
    const run = RunDirectory.create(config(path.join(root, 'a')));
    run.record(planned(run.path));
    run.close();
    const again = resolveConfig([fileLayer(run.file('config.yaml'))]);
    expect(again).toEqual({ ...config(run.path), outputDir: null, plan: run.file('plan.json') });
  });

  it('records layers, machine, steps and epochs', () => {
    const run = RunDirectory.create(config(path.join(root, 'a')));
    for (const event of [planned(run.path), progress(5), epoch(1)]) run.record(event);
    expect(lines(run, 'sparsity.csv')).toEqual([
      'layer,shape,params,nnz,density,macs,kernel,tiles,measured',
      'conv.weight,16x3x3x3,432,432,1,442368,conv_ref,forward=1x1/3,forward 9 GFLOP/s',
    ]);
    expect(lines(run, 'summary.csv')).toEqual([
      'epoch,step,train_loss,train_accuracy,test_loss,test_accuracy,validation_loss,validation_accuracy,lr,images_per_second,seconds',
      '1,5,2,0.1,,,,,0.1,1,1',
    ]);
    const metrics = lines(run, 'metrics.jsonl').map((line) => JSON.parse(line));
    expect(metrics[0]).toEqual({ schema: 1, tool: 'random-pruning' });
    expect(metrics.slice(1).map(({ type }) => type)).toEqual(['planned', 'progress', 'epoch']);
    expect(JSON.parse(fs.readFileSync(run.file('env.json'), 'utf8'))).toMatchObject({
      node: process.version,
      seed: 3,
      mask_sha256: 'ab',
    });
    expect(parse(fs.readFileSync(run.file('config.yaml'), 'utf8'))).toMatchObject({ density: 0.2 });
    run.close();
  });

  it('never writes into a directory that holds something', () => {
    const run = RunDirectory.create(config(path.join(root, 'a')));
    run.record(planned(run.path));
    run.close();
    expect(() => RunDirectory.create(config(run.path))).toThrow(`rp resume ${run.path}`);
    const again = RunDirectory.create(config(run.path, { overwrite: true }));
    expect(fs.readdirSync(again.path)).toEqual(['checkpoints']);
  });

  it('empties nothing but a run with --overwrite', () => {
    fs.writeFileSync(path.join(root, 'letter.txt'), 'dear');
    expect(() => RunDirectory.create(config(root, { overwrite: true }))).toThrow(
      'not a run directory; nothing was removed',
    );
    expect(fs.readFileSync(path.join(root, 'letter.txt'), 'utf8')).toBe('dear');
  });

  it('forgets on resume what was logged after the checkpoint, and a torn line', () => {
    const run = RunDirectory.create(config(path.join(root, 'a')));
    for (const event of [planned(run.path), progress(5), epoch(1), progress(7), progress(10), epoch(2)])
      run.record(event);
    run.close();
    fs.appendFileSync(run.file('metrics.jsonl'), '{"type":"progr');
    const resumed = RunDirectory.resume(run.path, 7);
    resumed.record(planned(run.path, 7));
    resumed.record(progress(10));
    resumed.close();
    const metrics = lines(run, 'metrics.jsonl')
      .slice(1)
      .map((line) => JSON.parse(line));
    expect(metrics.map(({ type, step }) => [type, step])).toEqual([
      ['planned', undefined],
      ['progress', 5],
      ['epoch', 5],
      ['progress', 7],
      ['planned', undefined],
      ['progress', 10],
    ]);
    expect(lines(run, 'summary.csv')).toHaveLength(2);
    expect(fs.existsSync(run.file('env-from-step-7.json'))).toBe(true);
  });

  it('resumes only what is a run', () => {
    expect(() => RunDirectory.resume(root, 0)).toThrow('not a run directory');
  });
});

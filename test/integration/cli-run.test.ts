/** Whole runs through the command line, on a small network and 64 images. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { rp, tinyCifar } from '../helpers/cli.js';

let directory: string;
let data: readonly string[];
/** 4 steps an epoch, 2 epochs. */
const network = [
  '-a',
  'resnet8-4',
  '--ratio',
  'erk',
  '--sparsity',
  '0.8',
  '--epochs',
  '2',
  '-b',
  '16',
  '-j',
  '1',
];
const run = (name: string, ...more: string[]) => [
  'run',
  ...network,
  ...data,
  '-o',
  path.join(directory, name),
  ...more,
];
const file = (...names: string[]) => path.join(directory, ...names);
const json = (name: string) => JSON.parse(fs.readFileSync(file(name, 'result.json'), 'utf8'));

beforeAll(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'rp-run-'));
  data = ['--data', 'cifar10', '--data-dir', tinyCifar(file('data'))];
  const { code, stderr } = await rp(run('whole', '--save-every', '2it', '--keep', '2', '-q', '--json'));
  expect(stderr).toBe('');
  expect(code).toBe(0);
});
afterAll(() => fs.rmSync(directory, { recursive: true }));

describe('rp run', () => {
  it('prints the result that scripts rely on as one line of JSON, and stores it', async () => {
    const { code, stdout, stderr } = await rp(run('json', '--json', '--log-interval', '2'));
    expect(code).toBe(0);
    expect(stdout.split('\n')).toHaveLength(2);
    const result = JSON.parse(stdout);
    expect(result).toEqual(json('json'));
    expect(result).toMatchObject({
      status: 'done',
      run_dir: file('json'),
      arch: 'resnet8-4',
      ratio: 'erk',
      sparsity: 0.8,
      seed: 17,
      data: 'cifar10',
      epochs: 2,
      best: null,
      checkpoint: file('json', 'checkpoints', 'last.rpck'),
    });
    const { final, images_per_second, flops_ratio, weights_sha256, checkpoint_bytes } = result;
    expect(final.test_accuracy).toBeGreaterThanOrEqual(0);
    expect(final.test_accuracy).toBeLessThanOrEqual(1);
    expect(final.test_loss).toBeGreaterThan(0);
    expect(final.train_loss).toBeGreaterThan(0);
    expect(images_per_second).toBeGreaterThan(0);
    expect(flops_ratio).toBeGreaterThan(0.2);
    expect(flops_ratio).toBeLessThan(1);
    expect(weights_sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(checkpoint_bytes).toBe(fs.statSync(result.checkpoint).size);
    const lines = stderr.trimEnd().split('\n');
    expect(lines[0]).toBe(`run directory: ${file('json')}`);
    expect(lines.at(-1)).toBe(`run directory: ${file('json')}`);
    expect(stderr).toContain('step 2/8  loss ');
    expect(stderr).toMatch(/epoch 2\/2 {2}train loss .* test loss .* acc /);
    expect(stderr).toMatch(/data cifar10: .*64 training and 32 test images/);
  });

  it('leaves a complete run directory', () => {
    expect(fs.readdirSync(file('json')).sort()).toEqual(
      [
        'checkpoints',
        'config.yaml',
        'env.json',
        'metrics.jsonl',
        'plan.json',
        'result.json',
        'sparsity.csv',
        'summary.csv',
      ].sort(),
    );
    const metrics = fs
      .readFileSync(file('json', 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(metrics[0]).toEqual({ schema: 1, tool: 'random-pruning' });
    expect(metrics.filter(({ type }) => type === 'progress').map(({ step }) => step)).toEqual([2, 4, 6, 8]);
    expect(metrics.filter(({ type }) => type === 'epoch').map(({ epoch }) => epoch)).toEqual([1, 2]);
    const summary = fs.readFileSync(file('json', 'summary.csv'), 'utf8').trimEnd().split('\n');
    expect(summary).toHaveLength(3);
    const layers = fs.readFileSync(file('json', 'sparsity.csv'), 'utf8').trimEnd().split('\n');
    expect(layers).toHaveLength(1 + 10);
    expect(layers[1]).toMatch(/^conv\.weight,4x3x3x3,108,\d+,0\.\d+,110592,\w+/);
    const plan = JSON.parse(fs.readFileSync(file('json', 'plan.json'), 'utf8'));
    expect(plan.layers.length).toBeGreaterThan(0);
    const env = JSON.parse(fs.readFileSync(file('json', 'env.json'), 'utf8'));
    expect(env).toMatchObject({ node: process.version, seed: 17, mask_sha256: json('json').mask_sha256 });
  });

  it('repeats itself from config.yaml, and is another run with another seed', async () => {
    const again = await rp(['run', '-c', file('whole', 'config.yaml'), '-o', file('again'), '-q', '--json']);
    expect(again.code).toBe(0);
    expect(json('again').weights_sha256).toBe(json('whole').weights_sha256);
    const other = await rp([
      'run',
      '-c',
      file('whole', 'config.yaml'),
      '--seed',
      '18',
      '-o',
      file('other'),
      '-q',
      '--json',
    ]);
    expect(other.code).toBe(0);
    expect(json('other').weights_sha256).not.toBe(json('whole').weights_sha256);
    expect(json('other').mask_sha256).not.toBe(json('whole').mask_sha256);
    expect(parse(fs.readFileSync(file('other', 'config.yaml'), 'utf8'))).toMatchObject({
      seed: 18,
      dataSeed: 18,
    });
  });

  it('gives the same weights on one and on two threads', async () => {
    await rp(run('two', '--threads', '2', '-j', '2', '-q'));
    expect(json('two').weights_sha256).toBe(json('whole').weights_sha256);
  });

  it('refuses a directory that holds a run, unless told to replace it', async () => {
    const refused = await rp(run('whole'));
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain(`rp resume ${file('whole')}`);
    await rp(run('replaced', '--max-steps', '1', '-q'));
    const replaced = await rp(run('replaced', '--max-steps', '2', '--overwrite', '-q', '--json'));
    expect(JSON.parse(replaced.stdout).steps).toBe(2);
  });

  it('prints claimed beside measured figures to people', async () => {
    const { code, stdout } = await rp(run('people', '--max-steps', '3', '-q'));
    expect(code).toBe(0);
    expect(stdout).toMatch(/^resnet8-4 · erk · sparsity 0\.8 · seed 17 · data cifar10$/m);
    expect(stdout).toMatch(/after 3 steps, in epoch 1: test accuracy \d+\.\d\d%/);
    expect(stdout).toMatch(/measured \d+ images\/s in training; FLOPs 0\.\d+ of dense by arithmetic/);
    expect(stdout).toMatch(/checkpoint [\d.]+ kB; stored dense [\d.]+ kB/);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe(`run directory: ${file('people')}`);
  });

  it('names the kernel of every layer with -v', async () => {
    const { stderr } = await rp(run('verbose', '--max-steps', '1', '-v'));
    expect(stderr).toMatch(/^blocks\.1\.shortcut\.0\.weight +8×4×1×1 +\d+ +[\d.]+ +\w+/m);
  });

  it('decides everything and writes nothing with --dry-run', async () => {
    const { code, stdout } = await rp(run('dry', '--dry-run', '--json'));
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      status: 'planned',
      batch_size: 16,
      accumulate: 1,
      mask_sha256: json('whole').mask_sha256,
    });
    expect(report.memory_bytes).toBeGreaterThan(0);
    expect(fs.existsSync(file('dry'))).toBe(false);
    expect((await rp(run('dry', '--dry-run'))).stdout).toContain('Nothing was trained');
  });

  it('takes the densities of a file, and says what the file keeps', async () => {
    const table = await rp([
      'sparsity',
      '-a',
      'resnet8-4',
      '--ratio',
      'uniform',
      '--sparsity',
      '0.5',
      '--json',
    ]);
    fs.writeFileSync(file('densities.json'), table.stdout);
    const argv = [
      'run',
      '-a',
      'resnet8-4',
      '--ratio',
      `file:${file('densities.json')}`,
      ...data,
      '--max-steps',
      '1',
      '-b',
      '16',
    ];
    const { code, stdout } = await rp([...argv, '-o', file('from-file'), '-q', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).sparsity).toBeCloseTo(0.5, 10);
  });

  it('measures snip and grasp on the data', async () => {
    for (const ratio of ['snip', 'grasp']) {
      const argv = [
        'run',
        '-a',
        'resnet8-4',
        '--ratio',
        ratio,
        '--sparsity',
        '0.5',
        ...data,
        '-b',
        '16',
        '--max-steps',
        '1',
      ];
      const { code, stderr, stdout } = await rp([
        ...argv,
        '--samples-per-class',
        '3',
        '-o',
        file(ratio),
        '--json',
      ]);
      expect(code).toBe(0);
      expect(stderr).toContain(`${ratio} measured on ${ratio === 'snip' ? '16 images' : '15 images'}`);
      expect(JSON.parse(stdout)).toMatchObject({ ratio, sparsity: 0.5 });
    }
  });

  it('exits 1 and names step and layer when a loss is not finite', async () => {
    const { code, stderr } = await rp(run('nan', '--lr', '1e30', '-q'));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^\[\S+\] expected a finite loss .* in step \d+/);
  });
});

describe('rp resume', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    '%s finishes the step, saves, exits %i, and resumes to the same weights',
    async (signal, code) => {
      let sent = false;
      const name = `stopped-${signal}`;
      const stopped = await rp(run(name, '--log-interval', '1'), {}, (text) => {
        if (sent || !text.includes('step 3/8')) return;
        sent = true;
        process.emit(signal, signal);
      });
      expect(stopped.code).toBe(code);
      expect(stopped.stderr).toContain(`${signal}: finishing this step and saving; once more stops now`);
      expect(stopped.stderr).toContain(`Go on with: rp resume ${file(name)}`);
      const resumed = await rp(['resume', file(name), '--json']);
      expect(resumed.code).toBe(0);
      expect(resumed.stderr).toMatch(/going on from step [34]$/m);
      const result = JSON.parse(resumed.stdout);
      expect(result).toMatchObject({ status: 'done', steps: 8 });
      expect(result.weights_sha256).toBe(json('whole').weights_sha256);
      const summary = fs.readFileSync(file(name, 'summary.csv'), 'utf8').trimEnd().split('\n');
      expect(summary).toHaveLength(3);
    },
  );

  it('stops at once, without saving, at the second signal', async () => {
    const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never);
    let sent = false;
    const stopped = await rp(run('twice', '--log-interval', '1'), {}, (text) => {
      if (sent || !text.includes('step 2/8')) return;
      sent = true;
      process.emit('SIGTERM', 'SIGTERM');
      expect(exit).not.toHaveBeenCalled();
      process.emit('SIGTERM', 'SIGTERM');
      expect(exit).toHaveBeenCalledExactlyOnceWith(143);
    });
    exit.mockRestore();
    expect(stopped.code).toBe(143);
    expect(process.listenerCount('SIGTERM')).toBe(0);
  });

  it('goes on by itself with --resume auto, and starts where nothing is', async () => {
    const started = await rp(run('auto', '--resume', '--max-steps', '2', '-q', '--json'));
    expect(JSON.parse(started.stdout)).toMatchObject({ status: 'done', steps: 2 });
    const again = await rp(run('auto', '--resume', 'auto', '-q', '--json'));
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout).steps).toBe(2);
    const nowhere = await rp(['run', ...network, ...data, '--resume']);
    expect(nowhere).toMatchObject({ code: 2 });
    expect(nowhere.stderr).toContain('Name its directory with --output-dir');
  });

  it('exits 4 on a damaged checkpoint and offers the one before', async () => {
    fs.cpSync(file('whole'), file('damaged'), { recursive: true });
    const last = file('damaged', 'checkpoints', 'last.rpck');
    const bytes = fs.readFileSync(last);
    bytes[bytes.length >> 1]! ^= 1;
    fs.writeFileSync(last, bytes);
    for (const argv of [
      ['resume', file('damaged')],
      ['eval', last],
    ]) {
      const { code, stderr, stdout } = await rp(argv);
      expect(code).toBe(4);
      expect(stdout).toBe('');
      expect(stderr).toContain(`${last}: damaged at byte`);
      expect(stderr).toContain('previous.rpck');
    }
  });

  it('exits with a clear message where there is no run', async () => {
    const { code, stderr } = await rp(['resume', file('nowhere')]);
    expect([2, 3]).toContain(code);
    expect(stderr).toContain(file('nowhere'));
  });
});

describe('rp eval', () => {
  it('measures the test accuracy and loss that the run reported', async () => {
    const { code, stdout } = await rp(['eval', file('whole'), '--json'], { RP_DATA: file('data') });
    expect(code).toBe(0);
    const { final, weights_sha256 } = json('whole');
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      arch: 'resnet8-4',
      data: 'cifar10',
      images: 32,
      accuracy: final.test_accuracy,
      weights_sha256,
    });
    expect(report.nll).toBeCloseTo(final.test_loss, 10);
    const text = await rp(['eval', file('whole', 'checkpoints', 'last.rpck')]);
    expect(text.stdout).toMatch(/accuracy [\d.]+% \(\d+ of 32 test images of cifar10\)/);
  });
});

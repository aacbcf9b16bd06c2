import * as fs from 'node:fs';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { rp } from '../helpers/cli.js';

let directory: string;
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'rp-cli-'));
});
afterAll(() => fs.rmSync(directory, { recursive: true }));

describe('rp', () => {
  it.each([
    [
      ['run', '-a', 'resnet20', '--sparsity', '50'],
      '--sparsity: expected a number in [0, 1), got 50. Did you mean 0.5?',
    ],
    [
      ['run', '-a', 'resnet20', '--sparsity', '0.5', '--density', '0.5'],
      '--sparsity: given together with --density',
    ],
    [['run', '-a', 'resnet20', '--sparsty', '0.5'], '--sparsty: unknown flag. Did you mean --sparsity?'],
    [
      ['run', '-a', 'resnet20', '--sparsity', '0.5', '--ratio', 'srip'],
      '--ratio: unknown policy "srip". Known: dense,',
    ],
    [['sparsity', '-a', 'resnet20', '--sparsity', '0.5', '--ratio', 'srip'], 'Did you mean "snip"?'],
    [['run', '-a', 'resnett20'], '--arch: unknown network "resnett20"'],
    [['run', '-a', 'resnet21'], '--arch: expected a CIFAR ResNet of depth 6n + 2'],
    [['run', '--sparsity', '0.5'], '--arch: missing; expected the name of a network'],
    [['run', '-a'], "option '-a, --arch <name>' argument missing"],
    [['spasity'], 'spasity: unknown command. Known: run, resume, eval, sparsity, models, data'],
    [['resume'], "missing required argument 'directory'"],
    [['data', 'get', 'cifar11'], 'rp data get: unknown data set "cifar11". Known: cifar10, cifar100.'],
    [['sparsity', '-a', 'resnet20', '--ratio', 'erk_plus', '--sparsity', '0.999'], 'erk_plus'],
  ])('exits 2 on %j', async (argv, message) => {
    const { code, stdout, stderr } = await rp(argv);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it('exits 3 for what this machine lacks', async () => {
    const cuda = await rp(['run', '-a', 'resnet20', '--device', 'cuda']);
    expect(cuda).toMatchObject({ code: 3, stdout: '' });
    expect(cuda.stderr).toContain('--device cuda: this build has no CUDA back-end.');
    const data = await rp([
      'run',
      '-a',
      'resnet20',
      '--data',
      'cifar10',
      '--data-dir',
      directory,
      '-o',
      `${directory}/no`,
    ]);
    expect(data.code).toBe(3);
    expect(data.stderr).toContain('data_batch_1.bin');
    expect(fs.existsSync(`${directory}/no`)).toBe(false);
  });

  it('prints help and version on stdout and exits 0', async () => {
    const { code, stdout } = await rp(['--help']);
    expect(code).toBe(0);
    for (const verb of ['run', 'resume', 'eval', 'sparsity', 'models', 'data', 'doctor', 'build']) {
      expect(stdout).toMatch(new RegExp(`^ {2}${verb}\\b`, 'm'));
    }
    expect((await rp(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = (await rp(['run', '--help'])).stdout;
    for (const flag of [
      '-a, --arch',
      '--sparsity',
      '-b, --batch-size',
      '-j, --workers',
      '-o, --output-dir',
      '-c, --config',
    ]) {
      expect(help).toContain(flag);
    }
  });

  it('prints the complete configuration with --print-config, and reads it back', async () => {
    const argv = ['run', '-a', 'wrn50', '--ratio', 'snip', '--sparsity', '0.5', '--print-config'];
    const { code, stdout } = await rp(argv, { RP_SEED: '5' });
    expect(code).toBe(0);
    expect(parse(stdout)).toMatchObject({
      arch: 'wrn50',
      ratio: 'snip',
      density: 0.5,
      batchSize: 192,
      seed: 5,
      maskSeed: 5,
    });
    const file = path.join(directory, 'again.yaml');
    fs.writeFileSync(file, stdout);
    expect((await rp(['run', '-c', file, '--print-config'])).stdout).toBe(stdout);
    const other = await rp(['run', '-c', file, '--sparsity', '0.9', '--print-config']);
    expect(parse(other.stdout).density).toBe(0.1);
  });
});

describe('rp models', () => {
  it('lists networks with the sizes of SPEC 1.5', async () => {
    const { code, stdout } = await rp(['models', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toContainEqual(
      expect.objectContaining({ name: 'wrn50', params: 68_883_240, macs: 11_398_021_120 }),
    );
    expect((await rp(['models'])).stdout).toMatch(/resnet20 +272,474 +40,813,184/);
  });
});

describe('rp data', () => {
  it('says which data sets are here and where it looked', async () => {
    const { code, stdout } = await rp(['data', '--data-dir', directory, '--json']);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.data_dir).toBe(directory);
    expect(report.datasets).toContainEqual(expect.objectContaining({ name: 'cifar10', folder: null }));
    expect((await rp(['data', 'list', '--data-dir', directory])).stdout).toMatch(
      /^cifar100 +CIFAR-100 +not here$/m,
    );
  });
});

describe('rp data get', () => {
  it('exits 3 when the server has no such file, and 4 when what it has is another', async () => {
    const server = http.createServer((request, response) => {
      if (request.url?.includes('cifar-100')) response.writeHead(404).end();
      else response.end('not an archive');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const get = (name: string) => [
      'data',
      'get',
      name,
      '--data-dir',
      directory,
      '--base-url',
      `http://127.0.0.1:${port}`,
    ];
    try {
      const missing = await rp(get('cifar100'));
      expect(missing).toMatchObject({ code: 3, stdout: '' });
      expect(missing.stderr).toContain('got 404');
      const other = await rp(get('cifar10'));
      expect(other).toMatchObject({ code: 4, stdout: '' });
      expect(other.stderr).toContain('c32a1d4ab5d03f1284b67883e8d87530');
    } finally {
      server.close();
    }
  });
});

describe('rp sparsity', () => {
  const golden = JSON.parse(fs.readFileSync('test/fixtures/golden/density_wrn50_2.json', 'utf8'));

  it('equals the golden densities, names and MACs of WRN-50-2 ERK+ 0.7', async () => {
    const { code, stdout } = await rp([
      'sparsity',
      '--arch',
      'wrn50',
      '--ratio',
      'erk_plus',
      '--sparsity',
      '0.7',
      '--json',
    ]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(Object.keys(report)).toEqual(
      expect.arrayContaining([
        'arch',
        'ratio',
        'sparsity',
        'density',
        'params',
        'macs',
        'macs_sparse',
        'layers',
      ]),
    );
    expect(report).toMatchObject({
      arch: 'wrn50',
      ratio: 'erk_plus',
      sparsity: 0.7,
      density: 0.3,
      params: 68_883_240,
      macs: 11_398_021_120,
    });
    const wanted = golden.cases.find(
      (one: { policy: string; sparsity: number }) => one.policy === 'ERK_plus' && one.sparsity === 0.7,
    );
    expect(report.macs_sparse / wanted.macs_sparse).toBeCloseTo(1, 12);
    expect(report.layers).toHaveLength(golden.layers.length);
    for (const [i, { name, shape, numel, macs }] of golden.layers.entries()) {
      expect(report.layers[i]).toMatchObject({ name, shape, numel, macs });
      expect(Math.abs(report.layers[i].density - wanted.density[i])).toBeLessThan(1e-12);
    }
    const kept = report.layers.reduce((sum: number, { nnz }: { nnz: number }) => sum + nnz, 0);
    expect(Math.abs(kept - wanted.nnz_target)).toBeLessThan(5 * wanted.bernoulli_std_of_nnz);
  });

  it('draws what the mask seed says, and only that', async () => {
    const table = async (...more: string[]) =>
      JSON.parse((await rp(['sparsity', '-a', 'resnet20', '--sparsity', '0.9', '--json', ...more])).stdout);
    const one = await table('--mask-seed', '1');
    expect(await table('--mask-seed', '1', '--init-seed', '4')).toEqual(one);
    const two = await table('--mask-seed', '2');
    expect(two.mask_sha256).not.toBe(one.mask_sha256);
    expect(two.layers.map(({ density }: { density: number }) => density)).toEqual(
      one.layers.map(({ density }: { density: number }) => density),
    );
  });

  it('sets the head by --classes where no data set does', async () => {
    const { stdout } = await rp(['sparsity', '-a', 'resnet20', '--classes', '100', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({
      ratio: 'dense',
      sparsity: 0,
      params: 278_324,
      macs: 40_818_944,
    });
  });

  it('reports degenerate layers', async () => {
    const { code, stderr, stdout } = await rp([
      'sparsity',
      '-a',
      'resnet20-8',
      '--ratio',
      'uniform',
      '--sparsity',
      '0.98',
    ]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/conv\.weight: .*outputs keep no weight|conv\.weight: the mask keeps none/);
    expect(stdout).toContain('arithmetic of the densities, not a measured speed-up');
  });
});

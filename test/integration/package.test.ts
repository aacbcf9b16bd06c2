/** The published package: packed, installed into an empty folder, and run from there. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nativePath, packageRoot } from '../../src/engine/native.js';

const root = packageRoot();
const folder = mkdtempSync(join(tmpdir(), 'rp-package-'));
const checkout = join(folder, 'checkout');
const user = join(folder, 'user');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function command(cwd: string, program: string, ...args: string[]) {
  const { RP_ADDON: _, ...env } = process.env;
  return spawnSync(program, args, { cwd, encoding: 'utf8', env, maxBuffer: 2 ** 26 });
}

/** Runs it, and fails the test with its output unless it ends well. */
function stdoutOf(cwd: string, program: string, ...args: string[]): string {
  const { status, stdout, stderr } = command(cwd, program, ...args);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/** A copy of the files git would commit, with the tools linked and this run's addon as its build. */
function copyCheckout(): void {
  const listed = stdoutOf(root, 'git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard');
  for (const file of new Set(listed.split('\0'))) {
    if (file === '' || file.startsWith('test/') || !existsSync(join(root, file))) continue;
    mkdirSync(dirname(join(checkout, file)), { recursive: true });
    cpSync(join(root, file), join(checkout, file), { preserveTimestamps: true });
  }
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  const release = join(checkout, 'build', 'Release');
  mkdirSync(release, { recursive: true });
  copyFileSync(nativePath(), join(release, 'random_pruning.node'));
  writeFileSync(join(release, '.built'), '');
}

const offline = /ENOTCACHED|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|FETCH_ERROR/;

describe.skipIf(!existsSync(join(root, '.git')))('the tarball (skips outside of a checkout)', () => {
  let unreachable = '';

  beforeAll(() => {
    copyCheckout();
    stdoutOf(checkout, 'npm', 'pack', '--pack-destination', folder);
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    mkdirSync(user);
    writeFileSync(join(user, 'package.json'), '{ "name": "user", "private": true }');
    const flags = [
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      '--fetch-retries=1',
      '--fetch-timeout=30000',
    ];
    const install = command(user, 'npm', 'install', ...flags, join(folder, tarball!));
    const output = install.stdout + install.stderr;
    if (install.status === 0) return;
    if (!offline.test(output)) throw new Error(`npm install ended with ${install.status}:\n${output}`);
    unreachable = `npm's registry cannot be reached: ${offline.exec(output)![0]}`;
  }, 300_000);

  const installed = join(user, 'node_modules', 'random-pruning');

  it('carries what runs and what builds, and nothing else', ({ skip }) => {
    skip(unreachable !== '', unreachable);
    const entries = readdirSync(installed).sort();
    expect(entries).toEqual(
      expect.arrayContaining([
        'CMakeLists.txt',
        'binding.gyp',
        'dist',
        'native',
        'package.json',
        'prebuilds',
        'scripts',
      ]),
    );
    for (const name of ['src', 'test', 'build', 'runs', 'node_modules']) expect(entries).not.toContain(name);
    expect(existsSync(join(installed, 'dist', 'src', 'checkpoint', 'checkpoint.pb.js'))).toBe(true);
    expect(readdirSync(join(installed, 'prebuilds', `${process.platform}-${process.arch}`))).toEqual([
      'random_pruning.node',
    ]);
  });

  it('runs `npx rp` with the prebuilt addon', ({ skip }) => {
    skip(unreachable !== '', unreachable);
    expect(stdoutOf(user, 'npx', '--no', 'rp', '--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
    const doctor = JSON.parse(stdoutOf(user, 'npx', '--no', 'rp', 'doctor', '--json'));
    const engine = doctor.checks.find((check: { name: string }) => check.name === 'engine');
    expect(engine.detail).toContain(join('random-pruning', 'prebuilds'));
    const table = JSON.parse(
      stdoutOf(
        user,
        'npx',
        ...['--no', 'rp', 'sparsity', '--arch', 'resnet20', '--ratio', 'erk', '--sparsity', '0.9', '--json'],
      ),
    );
    expect(table).toMatchObject({ arch: 'resnet20', ratio: 'erk', sparsity: 0.9, params: 272_474 });
  });

  it('trains', ({ skip }) => {
    skip(unreachable !== '', unreachable);
    const flags = [
      '--arch',
      'resnet8',
      '--sparsity',
      '0.5',
      '--data',
      'synthetic',
      '-b',
      '8',
      '--max-steps',
      '2',
    ];
    const result = JSON.parse(
      stdoutOf(user, 'npx', '--no', 'rp', 'run', ...flags, '--output-dir', 'out', '--json', '--quiet'),
    );
    expect(result).toMatchObject({ arch: 'resnet8', sparsity: 0.5 });
    expect(existsSync(result.checkpoint)).toBe(true);
  });

  it('is a library', ({ skip }) => {
    skip(unreachable !== '', unreachable);
    const program =
      "import { buildModel, planMemory } from 'random-pruning';" +
      "const { graph } = buildModel('resnet20', {});" +
      "console.log(planMemory({ graph, engine: 'cpu', batchSize: 16 }).total > 0);";
    expect(stdoutOf(user, process.execPath, '--input-type=module', '-e', program)).toBe('true\n');
  });
});

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildNative } from '../../src/cli/build.js';
import { packageRoot } from '../../src/engine/native.js';
import { EnvironmentError } from '../../src/errors.js';

it('a build without its tools names every missing one, and how to get them', async () => {
  const empty = mkdtempSync(join(tmpdir(), 'rp-build-'));
  const env = { PATH: empty };
  const script = join(packageRoot(), 'scripts', 'build-native.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script], { env, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({
    status: 3,
    stderr:
      'random-pruning: building the native engine needs cmake (3.18 or newer), and a C++17 compiler ' +
      '(g++ 10 or newer, or clang++), and make or ninja, which this machine lacks.\n' +
      'On Debian or Ubuntu: sudo apt-get install g++ cmake make\n',
  });

  const before = process.env.PATH;
  process.env.PATH = empty;
  try {
    let written = '';
    const cli = { stderr: { write: (text: string) => (written += text) } };
    await expect(buildNative({}, cli)).rejects.toThrow(EnvironmentError);
    expect(written).toContain('needs cmake');
  } finally {
    process.env.PATH = before;
    rmSync(empty, { recursive: true });
  }
});

// Builds of the native code with other CMake options than the installed addon's, and the tests against them.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Ends this process where the command fails. */
export function run(command, args, env = {}) {
  const { status, signal } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (status === 0) return;
  console.error(`${[command, ...args].join(' ')} ended with ${status ?? signal}`);
  process.exit(1);
}

/** Builds the targets in build/<name> and gives that folder. */
export function buildVariant(name, options, targets) {
  const folder = path.join(root, 'build', name);
  const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : [];
  const fresh = !existsSync(path.join(folder, 'CMakeCache.txt'));
  run('cmake', ['-S', root, '-B', folder, ...(fresh ? generator : []), ...options]);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism()), '--target', ...targets]);
  return folder;
}

/** vitest with the addon of a variant; `filters`: test files. */
export function testVariant(folder, filters, env = {}) {
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  run(process.execPath, [vitest, 'run', '--testTimeout=600000', ...filters], {
    RP_ADDON: path.join(folder, 'Release', 'random_pruning.node'),
    ...env,
  });
}

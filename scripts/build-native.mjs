// Builds the addon: build/Release/random_pruning.node. Works in a checkout and in an installed package (where its
// dependency cmake-js lies beside it), and needs no network: Node-API headers come from node-api-headers.
//
//   node scripts/build-native.mjs [--quiet] [--jobs N] [--clean]
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const addonFile = path.join(root, 'build', 'Release', 'random_pruning.node');

// CMake's own folder. The result is moved to build/Release when whole: a process that has the old one open keeps it,
// and node-gyp (binding.gyp) may use build/ as it likes.
const buildFolder = path.join(root, 'build', 'cmake');

function runs(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** What stands between this machine and a build, as sentences; empty: nothing. */
export function missingTools() {
  const missing = [];
  if (!runs('cmake', '--version')) missing.push('cmake (3.18 or newer)');
  const compiler = process.env.CXX ?? ['g++', 'clang++'].find((name) => runs(name, '--version'));
  if (!compiler || !runs(compiler, '--version'))
    missing.push('a C++17 compiler (g++ 10 or newer, or clang++)');
  if (!runs('ninja', '--version') && !runs('make', '--version')) missing.push('make or ninja');
  return missing;
}

export class BuildError extends Error {}

/** A cache of another place (a moved or copied checkout) stops CMake: it starts over. */
function dropForeignCache() {
  const cache = path.join(buildFolder, 'CMakeCache.txt');
  if (!existsSync(cache)) return;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1];
  if (!home || path.resolve(home) !== path.resolve(root))
    rmSync(buildFolder, { recursive: true, force: true });
}

/**
 * Builds and gives the addon's path.
 * @throws {BuildError} naming missing tools, or with the end of the build's output.
 */
export function buildNative({ quiet = false, jobs = availableParallelism(), clean = false } = {}) {
  const missing = missingTools();
  if (missing.length > 0) {
    throw new BuildError(
      `building the native engine needs ${missing.join(', and ')}, which this machine lacks.\n` +
        'On Debian or Ubuntu: sudo apt-get install g++ cmake make',
    );
  }
  if (clean) rmSync(buildFolder, { recursive: true, force: true });
  dropForeignCache();
  let cmakeJs;
  try {
    cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js');
  } catch {
    throw new BuildError('the package cmake-js is not installed. Run `npm install` first.');
  }
  const args = [cmakeJs, 'build', '-d', root, '-O', buildFolder, '-B', 'Release', '-p', String(jobs)];
  const build = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: quiet ? 'pipe' : 'inherit',
  });
  if (build.status !== 0) {
    const output = quiet ? `\n${`${build.stdout}${build.stderr}`.split('\n').slice(-40).join('\n')}` : '';
    throw new BuildError(`the native engine did not build (cmake-js ended with ${build.status}).${output}`);
  }
  mkdirSync(path.dirname(addonFile), { recursive: true });
  const aside = `${addonFile}.${process.pid}`;
  copyFileSync(path.join(buildFolder, 'Release', 'random_pruning.node'), aside);
  renameSync(aside, addonFile);
  return addonFile;
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { quiet: { type: 'boolean' }, clean: { type: 'boolean' }, jobs: { type: 'string', short: 'j' } },
  });
  try {
    const jobs = values.jobs === undefined ? availableParallelism() : Number(values.jobs);
    console.error(`built ${path.relative(process.cwd(), buildNative({ ...values, jobs }))}`);
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(`random-pruning: ${error.message}`);
    process.exitCode = 3;
  }
}

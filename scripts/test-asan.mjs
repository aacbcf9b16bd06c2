// `npm run test:asan`: the native code under sanitizers.
//   1. address and undefined behaviour: the addon built with both, and the tests that call it;
//   2. threads: C++ tests of the thread team and of the cpu engine (node itself cannot run under that sanitizer).
// Leaks are not looked for: node keeps much until the process ends.
//
//   node scripts/test-asan.mjs [vitest file filters]
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Tests whose work is native. The golden files and experiments run the same code at sizes too large for this. */
const nativeTests = [
  'test/conformance/ops',
  'test/conformance/derivatives',
  'test/conformance/run',
  'test/conformance/saliency-chunks',
  'test/integration/environments',
  'test/unit/data-',
  'test/unit/masks',
  'test/unit/random',
  'test/unit/session',
];

function run(command, args, env = {}) {
  const { status, signal } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (status === 0) return;
  console.error(`test:asan: ${[command, ...args].join(' ')} ended with ${status ?? signal}`);
  process.exit(1);
}

function build(folder, options, targets) {
  const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : [];
  // -O1: a sanitizer's checks do not optimise well, and stacks stay readable.
  const flags = ['-DCMAKE_BUILD_TYPE=RelWithDebInfo', '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g'];
  const fresh = !existsSync(path.join(folder, 'CMakeCache.txt'));
  run('cmake', ['-S', root, '-B', folder, ...(fresh ? generator : []), ...flags, ...options]);
  run('cmake', ['--build', folder, '--parallel', String(availableParallelism()), '--target', ...targets]);
}

const asan = path.join(root, 'build', 'asan');
build(asan, ['-DRP_ASAN=ON'], ['random_pruning']);
// Node was not built with the sanitizer, whose library must then be loaded before everything else.
const compiler = process.env.CXX ?? 'g++';
const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
  execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
);
const filters = process.argv.slice(2);
run(
  process.execPath,
  [
    path.join(root, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--testTimeout=600000',
    ...(filters.length > 0 ? filters : nativeTests),
  ],
  {
    RP_ADDON: path.join(asan, 'Release', 'random_pruning.node'),
    LD_PRELOAD: libraries.join(':'),
    ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  },
);

const tsan = path.join(root, 'build', 'tsan');
const threadTests = ['rp_threads_test', 'rp_engine_threads_test'];
build(tsan, ['-DRP_TSAN=ON', '-DRP_BUILD_ADDON=OFF', '-DRP_BUILD_TESTS=ON'], threadTests);
for (const name of threadTests) run(path.join(tsan, 'test', 'native', name), []);

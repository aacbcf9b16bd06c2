// `npm run test:asan`: the native code under sanitizers.
//   1. address and undefined behaviour: the addon built with both, and the tests that call it;
//   2. threads: C++ tests of the thread team and of the cpu engine (node itself cannot run under that sanitizer).
// Leaks are not looked for: node keeps much until the process ends.
//
//   node scripts/test-asan.mjs [vitest file filters]
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { buildVariant, run, testVariant } from './native-variant.mjs';

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

// -O1: a sanitizer's checks do not optimise well, and stacks stay readable.
const flags = ['-DCMAKE_BUILD_TYPE=RelWithDebInfo', '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g'];

const asan = buildVariant('asan', [...flags, '-DRP_ASAN=ON'], ['random_pruning']);
// Node was not built with the sanitizer, whose library must then be loaded before everything else.
const compiler = process.env.CXX ?? 'g++';
const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
  execFileSync(compiler, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
);
const filters = process.argv.slice(2);
testVariant(asan, filters.length > 0 ? filters : nativeTests, {
  LD_PRELOAD: libraries.join(':'),
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
});

const threadTests = ['rp_threads_test', 'rp_engine_threads_test'];
const options = ['-DRP_TSAN=ON', '-DRP_BUILD_ADDON=OFF', '-DRP_BUILD_TESTS=ON'];
const tsan = buildVariant('tsan', [...flags, ...options], threadTests);
for (const name of threadTests) run(path.join(tsan, 'test', 'native', name), []);

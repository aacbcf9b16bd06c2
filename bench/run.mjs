// npm run bench -- --help
// Builds dist/ and the bench programs (oneDNN: Debian package libdnnl-dev), then runs src/bench/main.ts. Writes
// bench/results/<date>-<cpu>-<kernels>.json, plots beside it, and bench/RESULTS.md; with --quick into build/bench-quick/.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function run(command, ...args) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] }).status === 0;
}

const { buildTypeScript } = await import('../scripts/build-ts.mjs');
await buildTypeScript();
const args = process.argv.slice(2);
const folder = path.join(root, 'build', 'bench');
const targets = ['rp_bench_layers', 'rp_bench_onednn_step'].flatMap((name) => ['--target', name]);
const helpOnly = args.includes('--help') || args.includes('-h');
const built =
  helpOnly ||
  (run('cmake', '-S', root, '-B', folder, '-DRP_BENCH=ON', '-DRP_BUILD_ADDON=OFF') &&
    run('cmake', '--build', folder, '--parallel', ...targets));
if (!built) {
  console.error(
    'bench: the oneDNN peers were not built (sudo apt-get install libdnnl-dev); going on without them.',
  );
}
const { status } = spawnSync(
  process.execPath,
  [path.join(root, 'dist', 'src', 'bench', 'main.js'), ...args],
  { cwd: root, stdio: 'inherit' },
);
process.exitCode = status ?? 1;

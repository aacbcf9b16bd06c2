// Formatting of C++: `node scripts/lint-native.mjs` checks, `--write` rewrites (.clang-format is the style).
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const write = process.argv.includes('--write');

const files = ['native', 'test/native']
  .flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true }).map((name) => path.join(folder, name)),
  )
  .filter((name) => /\.(h|cpp|cu|cuh)$/.test(name));

const version = spawnSync('clang-format', ['--version'], { encoding: 'utf8' });
if (version.status !== 0) {
  console.error('lint-native: skipped, clang-format is not installed (Debian: apt-get install clang-format)');
} else {
  const mode = write ? ['-i'] : ['--dry-run', '-Werror'];
  const { status } = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
  if (status !== 0) {
    console.error('lint-native: not formatted. Run `npm run format`.');
    process.exitCode = 1;
  }
}

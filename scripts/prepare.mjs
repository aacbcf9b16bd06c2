// npm's `prepare`: in a checkout, builds dist/ and the addon where they are missing or older than their sources.
// npm never runs it for those who install the published tarball, which carries both.
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { addonFile, BuildError, buildNative, root } from './build-native.mjs';
import { buildTypeScript } from './build-ts.mjs';

const modified = (file) => (existsSync(file) ? statSync(file).mtimeMs : 0);

/** The latest change below `paths` (files or folders of the repository); generated files do not count. */
function newest(paths) {
  return Math.max(
    ...paths.map((name) => {
      const full = path.join(root, name);
      if (!existsSync(full)) return 0;
      if (!statSync(full).isDirectory()) return modified(full);
      const entries = readdirSync(full, { recursive: true }).filter(
        (entry) => !/\.pb\.(js|d\.ts)$/.test(entry),
      );
      return Math.max(0, ...entries.map((entry) => modified(path.join(full, entry))));
    }),
  );
}

/** Runs `build` unless its stamp (written after it succeeds) is newer than every source. */
async function fresh(stamp, product, sources, what, build) {
  if (existsSync(product) && modified(stamp) >= newest(sources)) return;
  console.error(`random-pruning: building ${what}`);
  const started = Date.now();
  await build();
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, '');
  // Dated to the start: a source changed during the build counts as newer.
  utimesSync(stamp, new Date(), new Date(started));
}

export async function prepare() {
  await fresh(
    path.join(root, 'dist', '.built'),
    path.join(root, 'dist', 'src'),
    ['src', 'models', 'tsconfig.json', 'package.json'],
    'dist/ from TypeScript',
    buildTypeScript,
  );
  await fresh(
    path.join(root, 'build', 'Release', '.built'),
    addonFile,
    ['native', 'CMakeLists.txt'],
    'the native engine (a few minutes, once)',
    () => buildNative({ quiet: true }),
  );
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await prepare();
  } catch (error) {
    console.error(`random-pruning: ${error.message}`);
    process.exitCode = error instanceof BuildError ? 3 : 1;
  }
}

// Builds dist/ from src/ and models/: the checkpoint codec (protobuf), then TypeScript.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = path.join(root, 'dist');

/** Throws when a type is wrong or a tool is missing; dist/ is then as it was. */
export async function buildTypeScript() {
  let tsc;
  try {
    const require = createRequire(import.meta.url);
    tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
    require.resolve('protobufjs-cli/package.json');
  } catch {
    throw new Error(
      'building dist/ needs the development dependencies. Run `npm ci` without --omit=dev, or install the published package.',
    );
  }
  const { generateProtobuf } = await import('./generate-protobuf.mjs');
  generateProtobuf();
  // Built aside, so that nothing of a removed source stays and no half-built dist/ is ever seen.
  const aside = `${dist}.${process.pid}`;
  try {
    const { status } = spawnSync(process.execPath, [tsc, '-p', root, '--outDir', aside], {
      cwd: root,
      stdio: 'inherit',
    });
    if (status !== 0) throw new Error('TypeScript did not compile; dist/ is unchanged.');
    for (const name of ['checkpoint.pb.js', 'checkpoint.pb.d.ts']) {
      copyFileSync(path.join(root, 'src', 'checkpoint', name), path.join(aside, 'src', 'checkpoint', name));
    }
    const main = path.join(aside, 'src', 'cli', 'main.js');
    if (existsSync(main)) chmodSync(main, 0o755);
    rmSync(dist, { recursive: true, force: true });
    renameSync(aside, dist);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    await buildTypeScript();
  } catch (error) {
    console.error(`random-pruning: ${error.message}`);
    process.exitCode = 1;
  }
}

// Makes src/checkpoint/checkpoint.pb.{js,d.ts} from checkpoint.proto, when they are missing or older.
// Called by scripts/build-ts.mjs and by vitest's globalSetup. `node scripts/generate-protobuf.mjs [--force]`.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../src/checkpoint/', import.meta.url));
const source = path.join(folder, 'checkpoint.proto');
const outputs = ['checkpoint.pb.js', 'checkpoint.pb.d.ts'];

export function generateProtobuf({ force = false } = {}) {
  const modified = (file) => (existsSync(file) ? statSync(file).mtimeMs : 0);
  const oldest = Math.min(...outputs.map((name) => modified(path.join(folder, name))));
  if (!force && oldest >= modified(source)) return;
  const bin = path.join(
    path.dirname(createRequire(import.meta.url).resolve('protobufjs-cli/package.json')),
    'bin',
  );
  // Made aside and renamed when whole: several builds may run at once.
  const aside = mkdtempSync(path.join(folder, '.generate-'));
  const [module, types] = outputs.map((name) => path.join(aside, name));
  const run = (tool, args) =>
    execFileSync(process.execPath, [path.join(bin, tool), ...args], { stdio: 'inherit' });
  try {
    run('pbjs', [
      ...['-t', 'static-module', '-w', 'es6', '--no-service', '--no-create', '--no-verify', '--no-convert'],
      ...['--dependency', 'protobufjs/minimal.js', '--force-number', '-o', module, source],
    ]);
    run('pbts', ['-o', types, module]);
    for (const name of outputs) renameSync(path.join(aside, name), path.join(folder, name));
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

/** vitest's globalSetup. */
export default () => generateProtobuf();

if (process.argv[1] === fileURLToPath(import.meta.url))
  generateProtobuf({ force: process.argv.includes('--force') });

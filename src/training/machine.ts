/** What env.json says about where a run happened: versions, code, processor, command. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { packageRoot } from '../engine/native.js';
import { processorName } from '../engine/processor.js';

export function packageVersion(): string {
  const manifest = JSON.parse(fs.readFileSync(path.join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}

/** The commit this package is checked out at, `-dirty` when its files differ; null in an installed package. */
function gitHash(): string | null {
  const git = (...command: string[]) =>
    execFileSync('git', ['-C', packageRoot(), ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  if (!fs.existsSync(path.join(packageRoot(), '.git'))) return null;
  try {
    const dirty = git('status', '--porcelain', '--untracked-files=no').trim() === '' ? '' : '-dirty';
    return git('rev-parse', 'HEAD').trim() + dirty;
  } catch {
    return null;
  }
}

export function describeMachine() {
  return {
    time: new Date().toISOString(),
    version: packageVersion(),
    git: gitHash(),
    node: process.version,
    platform: `${os.type()} ${os.release()} ${os.arch()}`,
    cpu: processorName(),
    cores: os.availableParallelism(),
    memory_bytes: os.totalmem(),
    argv: process.argv.slice(1),
    variables: Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('RP_'))),
  };
}

/** `rp build`: the native engine, compiled on this machine, for those whom the prebuilt one does not serve. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import { packageRoot } from '../engine/native.js';
import { EnvironmentError, UsageError } from '../errors.js';
import { addOutputFlags, type Cli, type OutputFlags } from './cli.js';

export interface BuildOptions {
  /** Compilations at once; default: every core. */
  readonly jobs?: number | undefined;
  /** Forget what was built before. */
  readonly clean?: boolean | undefined;
  /** No compiler output unless it fails. */
  readonly quiet?: boolean | undefined;
}

/**
 * Builds the addon in this package's own folder; gives its path.
 * @throws {EnvironmentError} when a tool is missing or the build fails; its output has gone to stderr.
 */
export async function buildNative(options: BuildOptions, cli: Pick<Cli, 'stderr'>): Promise<string> {
  const root = packageRoot();
  const args = [join(root, 'scripts', 'build-native.mjs')];
  if (options.jobs !== undefined) args.push('--jobs', String(options.jobs));
  if (options.clean) args.push('--clean');
  if (options.quiet) args.push('--quiet');
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => cli.stderr.write(text));
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new EnvironmentError('rp build: the native engine was not built. The reason stands above.');
  return join(root, 'build', 'Release', 'random_pruning.node');
}

interface BuildFlags extends OutputFlags {
  readonly jobs?: number;
  readonly clean?: boolean;
}

export function buildVerb(program: Command, cli: Cli): void {
  const command = program
    .command('build')
    .description('Compile the native engine on this machine (needs g++ or clang++, cmake, make).')
    .option('-j, --jobs <n>', 'compilations at once (default: every core)', (text) => {
      const jobs = Number(text);
      if (!Number.isInteger(jobs) || jobs < 1) {
        throw new UsageError(`--jobs: expected a positive integer, got ${text}.`);
      }
      return jobs;
    })
    .option('--clean', 'forget what was built before');
  addOutputFlags(command);
  command.action(async () => {
    const flags = command.opts<BuildFlags>();
    const path = await buildNative(flags, cli);
    cli.stdout.write(flags.json ? `${JSON.stringify({ status: 'built', path })}\n` : `built ${path}\n`);
  });
}

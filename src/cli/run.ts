/** `rp run`: train one network from its initial weights. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import type { ExperimentConfig } from '../config.js';
import { UsageError } from '../errors.js';
import { addOutputFlags, type Cli, type OutputFlags } from './cli.js';
import { addExperimentFlags, experimentOf } from './config-sources.js';
import { train } from './training.js';

interface RunFlags extends OutputFlags {
  readonly printConfig?: boolean;
  readonly dryRun?: boolean;
  readonly resume?: string | boolean;
}

export function runVerb(program: Command, cli: Cli): void {
  const command = program
    .command('run')
    .description('Train a network from its initial weights, sparse from the first step.')
    .addHelpText('after', '\nExample:\n  rp run --arch resnet20 --ratio erk --sparsity 0.5 --epochs 2');
  addExperimentFlags(command);
  command
    .option(
      '--resume [which]',
      'auto: go on with what --output-dir holds, or start; PATH: as `rp resume PATH`',
    )
    .option('--dry-run', 'decide everything, print the layers and the memory plan, train nothing');
  addOutputFlags(command);
  command.action(() => run(command, cli));
}

async function run(command: Command, cli: Cli): Promise<void> {
  const flags = command.opts<RunFlags>();
  if (typeof flags.resume === 'string' && flags.resume !== 'auto') {
    return resumeRun(flags.resume, cli, flags);
  }
  const config = experimentOf(command, cli.env);
  if (flags.printConfig) {
    cli.stdout.write(stringify(config));
    return;
  }
  if (flags.dryRun) {
    const { dryRun } = await import('./dry-run.js');
    return dryRun(config, cli, flags);
  }
  const earlier = flags.resume ? earlierRun(config) : undefined;
  if (earlier) return resumeRun(earlier, cli, flags);
  const { runExperiment } = await import('../experiment.js');
  await train(cli, flags, (hooks) => runExperiment(config, hooks));
}

async function resumeRun(directory: string, cli: Cli, flags: OutputFlags): Promise<void> {
  const { resumeExperiment } = await import('../experiment.js');
  await train(cli, flags, (hooks) => resumeExperiment(directory, hooks));
}

/** The directory that `--resume auto` goes on with, or undefined: start there. */
function earlierRun(config: ExperimentConfig): string | undefined {
  if (config.outputDir === null) {
    throw new UsageError(
      '--resume auto: which run? Name its directory with --output-dir, or give --resume PATH.',
    );
  }
  const checkpoints = path.join(config.outputDir, 'checkpoints');
  const saved =
    fs.existsSync(checkpoints) && fs.readdirSync(checkpoints).some((name) => name.endsWith('.rpck'));
  return saved ? config.outputDir : undefined;
}

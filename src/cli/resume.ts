/** `rp resume`: go on with a stopped or killed run, bit for bit as if it had never stopped. */
import type { Command } from 'commander';
import { addOutputFlags, type Cli, type OutputFlags } from './cli.js';
import { train } from './training.js';

export function resumeVerb(program: Command, cli: Cli): void {
  const command = program
    .command('resume')
    .description('Go on with a stopped or killed run, bit for bit as if it had never stopped.')
    .argument('<directory>', 'the run directory');
  addOutputFlags(command);
  command.action(async (directory: string) => {
    const { resumeExperiment } = await import('../experiment.js');
    await train(cli, command.opts<OutputFlags>(), (hooks) => resumeExperiment(directory, hooks));
  });
}

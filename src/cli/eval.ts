/** `rp eval`: test accuracy and loss of a checkpoint. */
import type { Command } from 'commander';
import { checkSettings } from '../resolve-config.js';
import { addOutputFlags, type Cli, grouped, type OutputFlags } from './cli.js';
import { environmentLayer } from './config-sources.js';
import { addConfigFlags, flagLayer } from './flags.js';

const fields = ['data', 'dataDir', 'workers', 'batchSize', 'device', 'threads', 'pin', 'memory'] as const;

export function evalVerb(program: Command, cli: Cli): void {
  const command = program
    .command('eval')
    .description('Test accuracy and loss of a checkpoint, or of the last one in a run directory.')
    .argument('<checkpoint>', 'a .rpck file or a run directory');
  addConfigFlags(command, fields);
  addOutputFlags(command);
  command.action(async (checkpoint: string) => {
    const flags = command.opts<OutputFlags>();
    const { evaluateCheckpoint } = await import('../experiment.js');
    const onNotice = (message: string) => {
      if (!flags.quiet) cli.stderr.write(`${message}\n`);
    };
    const said = { ...checkSettings(environmentLayer(cli.env)), ...checkSettings(flagLayer(command)) };
    const settings = Object.fromEntries(fields.map((name) => [name, said[name]]));
    const report = await evaluateCheckpoint(checkpoint, { ...settings, onNotice });
    if (flags.json) {
      cli.stdout.write(`${JSON.stringify(report)}\n`);
      return;
    }
    const { arch, data, images, correct, accuracy, nll, step, epoch, density } = report;
    cli.stdout.write(
      `${arch} · sparsity ${(1 - density).toFixed(4)} · after ${grouped(step)} steps (${Number(epoch.toFixed(2))} epochs)\n` +
        `  accuracy ${(100 * accuracy).toFixed(2)}% (${grouped(correct)} of ${grouped(images)} test images of ${data})\n` +
        `  nll ${nll.toFixed(4)}\n` +
        `  weights sha256 ${report.weights_sha256}\n`,
    );
  });
}

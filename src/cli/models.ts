/** `rp models`: the networks there are, with their exact sizes. */
import type { Command } from 'commander';
import { modelNames } from '../architectures/index.js';
import { addOutputFlags, type Cli, grouped, type OutputFlags, table } from './cli.js';

export function modelsVerb(program: Command, cli: Cli): void {
  const command = program
    .command('models')
    .description('List the networks, their parameters and multiply-accumulates.');
  addOutputFlags(command);
  command.action(() => {
    const models = modelNames();
    if (command.opts<OutputFlags>().json) {
      cli.stdout.write(`${JSON.stringify(models)}\n`);
      return;
    }
    const rows = models.map(({ name, description, params, macs }) => [
      name,
      grouped(params),
      grouped(macs),
      description,
    ]);
    cli.stdout.write(table([['name', 'parameters', 'MACs', ''], ...rows]));
    cli.stdout.write(
      '\nAny CIFAR ResNet: resnetD for depth D = 6n+2, resnetD-W for width W (resnet20-24).\n',
    );
  });
}

/** `rp sparsity`: the layer-wise densities and the drawn masks of a network, without training it. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { sparsityOf } from '../config.js';
import { flopsRatio } from '../metrics/flops.js';
import type { DrawnNetwork } from '../training/draw.js';
import { addOutputFlags, type Cli, grouped, type OutputFlags, table } from './cli.js';
import { addExperimentFlags, experimentOf } from './config-sources.js';

/** What decides a network before training; snip and grasp measure on the data. */
const fields = [
  ...[
    'arch',
    'classes',
    'imageSize',
    'ratio',
    'sparsity',
    'density',
    'classifierDensity',
    'sampler',
    'granularity',
  ],
  ...[
    'snipInit',
    'snipKeepMask',
    'saliencyBatchSize',
    'samplesPerClass',
    'initialisation.fan',
    'initialisation.scaled',
  ],
  ...['data', 'dataDir', 'protocol', 'workers', 'batchSize', 'seed', 'initSeed', 'maskSeed', 'dataSeed'],
  ...['device', 'threads', 'pin', 'memory'],
];

export function sparsityVerb(program: Command, cli: Cli): void {
  const command = program
    .command('sparsity')
    .description('Print the layer-wise densities of a policy and the masks drawn from them; no training.')
    .addHelpText('after', '\nExample:\n  rp sparsity --arch wrn50 --ratio erk_plus --sparsity 0.7 --json');
  addExperimentFlags(command, fields);
  addOutputFlags(command);
  command.action(async () => {
    const flags = command.opts<OutputFlags & { printConfig?: boolean }>();
    const config = experimentOf(command, cli.env);
    if (flags.printConfig) {
      cli.stdout.write(stringify(config));
      return;
    }
    const { prepareNetwork } = await import('../training/prepare.js');
    const notices: string[] = [];
    const { network } = await prepareNetwork(config, { onNotice: (message) => notices.push(message) });
    if (!flags.quiet) for (const notice of notices) cli.stderr.write(`${notice}\n`);
    const { cost } = network;
    const report = {
      arch: config.arch,
      ratio: config.ratio,
      sparsity: sparsityOf(config),
      density: config.density,
      params: cost.params,
      macs: cost.macs,
      macs_sparse: cost.macsSparse,
      mask_sha256: network.maskHash,
      layers: cost.layers,
    };
    cli.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : sparsityTable(network));
  });
}

/** The same for people: a row a layer, the totals below. */
export function sparsityTable({ cost, maskHash }: DrawnNetwork): string {
  const { layers } = cost;
  const numel = layers.reduce((sum, layer) => sum + layer.numel, 0);
  const nnz = layers.reduce((sum, layer) => sum + layer.nnz, 0);
  const rows = layers.map((layer) => [
    layer.name,
    layer.shape.join('x'),
    grouped(layer.numel),
    layer.density.toFixed(4),
    grouped(layer.nnz),
    (layer.nnz / layer.numel).toFixed(4),
    grouped(layer.macs),
  ]);
  return [
    table([['layer', 'shape', 'weights', 'density', 'kept', 'kept share', 'MACs'], ...rows]),
    `\nkept ${grouped(nnz)} of ${grouped(numel)} prunable weights: sparsity ${(1 - nnz / numel).toFixed(4)}\n`,
    `parameters in all ${grouped(cost.params)}; dense MACs ${grouped(cost.macs)} an image\n`,
    `FLOPs ${flopsRatio(cost).toFixed(4)} of dense (arithmetic of the densities, not a measured speed-up)\n`,
    `mask sha256 ${maskHash}\n`,
  ].join('');
}

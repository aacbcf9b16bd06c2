/** `rp run --dry-run`: everything that is decided before the first step, printed instead of trained. */
import { type ExperimentConfig, sparsityOf } from '../config.js';
import { planBatch, prepareTraining } from '../training/prepare.js';
import { bytesText } from '../units.js';
import type { Cli, OutputFlags } from './cli.js';
import { sparsityTable } from './sparsity.js';

export async function dryRun(config: ExperimentConfig, cli: Cli, flags: OutputFlags): Promise<void> {
  const onNotice = (message: string) => {
    if (!flags.quiet) cli.stderr.write(`${message}\n`);
  };
  const { network, dataset } = await prepareTraining(config, { onNotice });
  const { batchSize, accumulate, memoryBytes, budgetBytes } = planBatch(config, network, { onNotice });
  const { cost } = network;
  if (flags.json) {
    const report = {
      status: 'planned',
      arch: config.arch,
      ratio: config.ratio,
      sparsity: sparsityOf(config),
      density: config.density,
      seed: config.seed,
      data: dataset.name,
      batch_size: batchSize,
      accumulate,
      memory_bytes: memoryBytes,
      memory_budget_bytes: budgetBytes,
      params: cost.params,
      macs: cost.macs,
      macs_sparse: cost.macsSparse,
      mask_sha256: network.maskHash,
      layers: cost.layers,
    };
    cli.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  cli.stdout.write(sparsityTable(network));
  cli.stdout.write(
    `data ${dataset.name}: ${dataset.description}\n` +
      `batch ${batchSize} × ${accumulate}, ${bytesText(memoryBytes)} planned of ${bytesText(budgetBytes)} allowed\n` +
      'Nothing was trained and nothing written (--dry-run).\n',
  );
}

/** `rp bench`: whole training steps, sparse beside dense, on this machine and beside the libraries it has. */
import { type Command, Option } from 'commander';
import { UsageError } from '../errors.js';
import { sparsityToDensity } from '../resolve-config.js';
import { bytesText } from '../units.js';
import { benchProfile } from './bench-profile.js';
import { addOutputFlags, type Cli, type OutputFlags, table } from './cli.js';

interface BenchFlags extends OutputFlags {
  readonly arch: string;
  readonly ratio: string;
  readonly sparsity: string;
  readonly batchSize?: string;
  readonly threads: string;
  readonly seconds: string;
  readonly rounds: string;
  readonly peers: boolean;
  /** The trace's file. */
  readonly profile?: string;
}

function number(flag: string, text: string, what: string, holds: (value: number) => boolean): number {
  const value = Number(text);
  if (text.trim() !== '' && holds(value)) return value;
  throw new UsageError(`${flag}: expected ${what}, got ${text}.`);
}

export function benchVerb(program: Command, cli: Cli): void {
  const command = program
    .command('bench')
    .description('Time whole training steps, sparse beside dense, with PyTorch and oneDNN where installed.')
    .addHelpText(
      'after',
      '\nExample:\n  rp bench --arch resnet20 --ratio uniform,erk --sparsity 0.5,0.9 --threads 2',
    )
    .addOption(new Option('-a, --arch <name>', 'the network').default('resnet20'))
    .addOption(new Option('--ratio <names>', 'layer-wise ratios, by commas').default('uniform,erk'))
    .addOption(new Option('--sparsity <s>', 'sparsities, by commas').default('0.5,0.9'))
    .option('-b, --batch-size <n>', 'images a step (default: 128, or 32 for large images)')
    .addOption(new Option('--threads <n>', 'of every contestant; 0: every core').default('0'))
    .addOption(new Option('--seconds <s>', 'timed seconds a contestant').default('5'))
    .addOption(new Option('--rounds <n>', 'turns a contestant takes').default('5'))
    .option('--no-peers', 'only our own engine')
    .addOption(
      new Option(
        '--profile [file]',
        'where a step of our own engine spends its time, with the first ratio and sparsity (0: dense): tables, and a Chrome trace of up to 20 steps',
      ).preset('rp-profile.json'),
    );
  addOutputFlags(command);
  command.action(async () => {
    const flags = command.opts<BenchFlags>();
    const isCount = (value: number) => Number.isInteger(value) && value >= 1;
    const densities = flags.sparsity
      .split(',')
      .map((text) => number('--sparsity', text, 'numbers in [0, 1)', (s) => s >= 0 && s < 1))
      .map(sparsityToDensity);
    const { ratioPolicies, findPolicy } = await import('../ratios/index.js');
    const ratios = flags.ratio.split(',');
    for (const name of ratios) {
      if (findPolicy(name).needs === 'shapes') continue;
      const shapes = ratioPolicies.filter((policy) => policy.needs === 'shapes').map((policy) => policy.name);
      throw new UsageError(
        `--ratio: expected policies that need no data, got ${name}. Known: ${shapes.join(', ')}.`,
      );
    }
    const threads = number('--threads', flags.threads, 'a count', (n) => Number.isInteger(n) && n >= 0);
    const { native } = await import('../engine/native.js');
    const shared = {
      arch: flags.arch,
      ...(flags.batchSize !== undefined && {
        batchSize: number('--batch-size', flags.batchSize, 'a positive integer', isCount),
      }),
      threads: threads || native().session.cpu().cores,
      seconds: number('--seconds', flags.seconds, 'a number > 0', (s) => s > 0),
      ...(flags.progress &&
        !flags.quiet && { onProgress: (message: string) => cli.stderr.write(`${message}\n`) }),
    };
    const rounds = number('--rounds', flags.rounds, 'a positive integer', isCount);
    if (flags.profile !== undefined) {
      const density = densities[0]!;
      const sparse = density < 1 && { sparse: { ratio: ratios[0]!, density } };
      await benchProfile(cli, flags.profile, { ...shared, ...sparse }, flags);
      return;
    }
    const { benchTraining } = await import('../bench/train.js');
    const result = await benchTraining({ ...shared, ratios, densities, rounds, withoutPeers: !flags.peers });
    if (!flags.quiet) for (const sentence of result.missing) cli.stderr.write(`not measured: ${sentence}\n`);
    if (flags.json) {
      cli.stdout.write(`${JSON.stringify(result)}\n`);
      return;
    }
    const rows = result.entries.map((entry) => [
      entry.name,
      entry.milliseconds.median.toFixed(1),
      `${entry.milliseconds.low.toFixed(1)}-${entry.milliseconds.high.toFixed(1)}`,
      entry.imagesPerSecond.toFixed(0),
      entry.peakBytes === null ? '?' : bytesText(entry.peakBytes),
      (entry.flopsRatio ?? 1).toFixed(3),
      entry.timeRatio?.toFixed(3) ?? '',
      entry.speedup?.toFixed(2) ?? '',
    ]);
    cli.stdout.write(
      table([
        ['contestant', 'ms', 'quartiles', 'images/s', 'memory', 'FLOPs/dense', 'time/our dense', 'over peer'],
        ...rows,
      ]),
    );
    cli.stdout.write(
      `\n${result.arch}, batch ${result.batchSize}, ${result.threads} threads; "over peer": the fastest dense fp32 step of the others, in this run, ÷ ours\n`,
    );
  });
}

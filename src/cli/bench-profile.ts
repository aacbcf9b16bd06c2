/** `rp bench --profile`: the trace as a file, the summary as tables. */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import type { LayerTime, PassTime } from '../bench/profile.js';
import type { ProfileOptions, TrainProfile } from '../bench/profile-run.js';
import { sparsityOf } from '../config.js';
import { UsageError } from '../errors.js';
import { type Cli, type OutputFlags, table } from './cli.js';

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

function passCells(pass: PassTime | null): [string, string] {
  return pass ? [pass.milliseconds.toFixed(2), pass.gflops.toFixed(1)] : ['-', '-'];
}

function layerRow({ layer, shape, density, forward, dgrad, wgrad, share }: LayerTime): string[] {
  const passes = [forward, dgrad, wgrad].flatMap(passCells);
  return [layer, shape.join('x'), density.toFixed(3), ...passes, percent(share)];
}

/** Time by kind of op, then by layer. */
export function profileText(profile: TrainProfile): string {
  const { arch, ratio, density, batchSize, threads, steps, milliseconds, kinds, between, layers } = profile;
  const network = density === undefined ? 'dense' : `${ratio} ${sparsityOf({ density })}`;
  const [median, low, high] = [milliseconds.median, milliseconds.low, milliseconds.high].map((ms) =>
    ms.toFixed(1),
  );
  return [
    `${arch} ${network}, batch ${batchSize}, ${threads} threads: ${median} ms a step (quartiles ${low}-${high} of ${steps})\n`,
    table([
      ['op', 'a step', 'ms', 'share', 'GFLOP/s'],
      ...kinds.map(({ kind, count, milliseconds: ms, share, gflops }) => [
        kind,
        Number(count.toFixed(1)),
        ms.toFixed(2),
        percent(share),
        gflops?.toFixed(1) ?? '-',
      ]),
      ['(between ops)', '-', between.milliseconds.toFixed(2), percent(between.share), '-'],
    ]),
    table([
      [
        'layer',
        'shape',
        'density',
        'forward ms',
        'GFLOP/s',
        'dgrad ms',
        'GFLOP/s',
        'wgrad ms',
        'GFLOP/s',
        'share',
      ],
      ...layers.map(layerRow),
    ]),
    'GFLOP/s of kept weights only; times are means over the middle half of the steps.',
    'Of an op that takes turns with a convolution, the time of the first thread.\n',
  ].join('\n');
}

/** Before minutes of work, not after them. */
function requireWritable(file: string): void {
  try {
    closeSync(openSync(file, 'a'));
  } catch (error) {
    throw new UsageError(`--profile: expected a file that can be written, got ${(error as Error).message}.`);
  }
}

export async function benchProfile(
  cli: Cli,
  file: string,
  options: ProfileOptions,
  { json }: OutputFlags,
): Promise<void> {
  requireWritable(file);
  const { profileTraining } = await import('../bench/profile-run.js');
  const { summary, trace } = await profileTraining(options);
  writeFileSync(file, `${JSON.stringify(trace)}\n`);
  if (json) {
    cli.stdout.write(`${JSON.stringify({ ...summary, trace: file })}\n`);
    return;
  }
  cli.stdout.write(profileText(summary));
  cli.stdout.write(`${file}: every op of every step, for chrome://tracing or ui.perfetto.dev\n`);
}

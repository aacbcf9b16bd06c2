/**
 * What `run` and `resume` share: progress, signals, the closing report. The first SIGINT or SIGTERM lets the step
 * end, saves and prints how to go on; the second stops at once.
 */

import type { ExperimentEvent, ExperimentResult } from '../training/events.js';
import { bytesText } from '../units.js';
import { type Cli, grouped, type OutputFlags, Stopped } from './cli.js';
import { Progress } from './progress.js';

const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;
type SignalName = keyof typeof signalNumbers;

export interface TrainingHooks {
  readonly signal: AbortSignal;
  readonly onEvent: (event: ExperimentEvent) => void;
}

/** Exit code of a process stopped by a signal: 130, 143. */
const stoppedBy = (name: SignalName) => 128 + signalNumbers[name];

/** Runs `train` with progress and signals; prints its result, or throws Stopped after a signal. */
export async function train(
  cli: Cli,
  flags: OutputFlags,
  start: (hooks: TrainingHooks) => Promise<ExperimentResult>,
): Promise<void> {
  const progress = new Progress(cli, flags);
  const controller = new AbortController();
  let caught: SignalName | undefined;
  const onSignal = (name: SignalName) => {
    if (caught !== undefined) {
      progress.clear();
      process.exit(stoppedBy(name));
    }
    caught = name;
    progress.clear();
    cli.stderr.write(`${name}: finishing this step and saving; once more stops now, without saving.\n`);
    controller.abort(name);
  };
  for (const name of Object.keys(signalNumbers) as SignalName[]) process.on(name, onSignal);

  const onEvent = (event: ExperimentEvent) => progress.show(event);
  try {
    const result = await start({ signal: controller.signal, onEvent });
    progress.clear();
    report(cli, flags, result);
    if (result.status !== 'stopped') return;
    const resume = result.run_dir ? `Go on with: rp resume ${result.run_dir}` : 'It kept no run directory.';
    cli.stderr.write(`Stopped after step ${grouped(result.steps)}. ${resume}\n`);
    throw new Stopped(stoppedBy(caught ?? 'SIGINT'));
  } catch (error) {
    progress.clear();
    if (caught === undefined || error instanceof Stopped || !controller.signal.aborted) throw error;
    if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
    cli.stderr.write('Stopped before the first step; there is nothing to resume.\n');
    throw new Stopped(stoppedBy(caught));
  } finally {
    for (const name of Object.keys(signalNumbers) as SignalName[]) process.off(name, onSignal);
  }
}

const percent = (share: number) => `${(100 * share).toFixed(2)}%`;

/** The result: one line of JSON, or claimed figures beside measured ones. The run directory stands last. */
function report(cli: Cli, flags: OutputFlags, result: ExperimentResult): void {
  const directory = result.run_dir ? `run directory: ${result.run_dir}\n` : '';
  if (flags.json) {
    cli.stdout.write(`${JSON.stringify(result)}\n`);
    if (!flags.quiet) cli.stderr.write(directory);
    return;
  }
  const { final, best } = result;
  const lines = [
    `${result.arch} · ${result.ratio} · sparsity ${result.sparsity} · seed ${result.seed} · data ${result.data}`,
    `  after ${grouped(result.steps)} steps, in epoch ${result.epochs}: ` +
      [
        final.test_accuracy === null ? '' : `test accuracy ${percent(final.test_accuracy)}`,
        final.test_loss === null ? '' : `test loss ${final.test_loss.toFixed(4)}`,
        final.train_loss === null ? '' : `training loss ${final.train_loss.toFixed(4)}`,
      ]
        .filter(Boolean)
        .join(', '),
    best &&
      `  best by held-out images: epoch ${best.epoch}, validation accuracy ${percent(best.validation_accuracy)}` +
        (best.test_accuracy === null ? '' : `, test accuracy ${percent(best.test_accuracy)}`),
    `  measured ${result.images_per_second.toFixed(0)} images/s in training; FLOPs ${result.flops_ratio.toFixed(4)} of dense by arithmetic`,
    result.checkpoint_bytes !== null &&
      result.checkpoint_dense_bytes !== null &&
      `  checkpoint ${bytesText(result.checkpoint_bytes)}; stored dense ${bytesText(result.checkpoint_dense_bytes)}`,
    `  weights sha256 ${result.weights_sha256}`,
  ];
  cli.stdout.write(`${lines.filter(Boolean).join('\n')}\n`);
  cli.stdout.write(directory);
}

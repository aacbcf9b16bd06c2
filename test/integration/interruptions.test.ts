/** Runs in processes of their own that are killed and stopped: nothing is lost, nothing starts over. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { loadCheckpoint, resumeExperiment, validCheckpoints } from 'random-pruning';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileSources, type Exited, startNode, until } from '../helpers/compiled.js';
import { engines } from '../helpers/engines.js';
import { writeTinyCifar } from '../helpers/experiments.js';

/** Processes to kill; a release test asks for 1,000. */
const kills = Number(process.env.RP_KILLS ?? 6);
/** Three steps an epoch: enough of them that every kill finds the run at work. */
const epochs = 4 * kills;
const device = engines.includes('cpu') ? 'cpu' : 'reference';

let root: string;
let compiled: ReturnType<typeof compileSources>;
beforeAll(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'rp-interruptions-'));
  writeTinyCifar(path.join(root, 'data'), 48, 16);
  compiled = compileSources();
});
afterAll(() => {
  compiled.remove();
  fs.rmSync(root, { recursive: true });
});

const rp = (...argv: string[]) => startNode([path.join(compiled.directory, 'src/cli/main.js'), ...argv]);

function startRun(name: string, ...more: string[]) {
  const directory = path.join(root, name);
  const flags = [
    '--arch',
    'resnet8-4',
    '--sparsity',
    '0.5',
    '--data',
    'cifar10',
    '--data-dir',
    path.join(root, 'data'),
  ];
  const sizes = [
    '--batch-size',
    '16',
    '--epochs',
    `${epochs}`,
    '--device',
    device,
    '--threads',
    '1',
    '--workers',
    '1',
  ];
  const often = ['--save-every', '1it', '--log-interval', '1', '--json'];
  return { directory, ...rp('run', ...flags, ...sizes, ...often, '--output-dir', directory, ...more) };
}

const resultOf = ({ stdout }: Exited) => JSON.parse(stdout.trim().split('\n').at(-1)!);
/** Steps that metrics.jsonl knows of. */
const stepsLogged = (directory: string) => {
  const file = path.join(directory, 'metrics.jsonl');
  return fs.existsSync(file) ? (fs.readFileSync(file, 'utf8').match(/"type":"progress"/g) ?? []).length : 0;
};

describe('a run that is interrupted', () => {
  it(
    'goes on from every SIGKILL and ends with the weights of a run that was never killed',
    async () => {
      const undisturbed = startRun('undisturbed');
      const whole = await undisturbed.exited;
      expect(whole.code, whole.stderr).toBe(0);
      const { weights_sha256, steps } = resultOf(whole);
      expect(steps).toBe(3 * epochs);

      let random = 12345;
      const { directory, child, exited } = startRun('killed');
      let current = { child, exited };
      let killed = 0;
      while (killed < kills) {
        const before = acknowledgedStep(directory);
        const { child } = current;
        await until(() => acknowledgedStep(directory) > before || child.exitCode !== null, 'a checkpoint');
        if (child.exitCode !== null) break; // a machine so fast that the run is over
        // Anywhere within some steps' time: in a step, a save, a rename.
        random = (Math.imul(random, 1103515245) + 12345) >>> 0;
        await new Promise((resolve) => setTimeout(resolve, random % 40));
        child.kill('SIGKILL');
        killed++;
        await current.exited;
        const acknowledged = acknowledgedStep(directory);
        const [newest] = await validCheckpoints(path.join(directory, 'checkpoints'));
        expect(
          newest!.step,
          `kill ${killed}: a checkpoint that was announced is gone`,
        ).toBeGreaterThanOrEqual(acknowledged);
        await loadCheckpoint(path.join(directory, 'checkpoints', 'last.rpck'));
        current = rp('resume', directory, '--json');
      }
      expect(killed).toBeGreaterThanOrEqual(Math.min(kills, 3));
      const end = await current.exited;
      expect(end.code, end.stderr).toBe(0);
      expect(resultOf(end)).toMatchObject({ weights_sha256, steps, status: 'done' });
    },
    60_000 + 20_000 * kills,
  );

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('saves at %s, exits with %i, and goes on to the same weights', async (signal, code) => {
    const { directory, child, exited } = startRun(signal);
    await until(() => stepsLogged(directory) >= 2, 'two steps');
    child.kill(signal);
    const stopped = await exited;
    expect(stopped.code, stopped.stderr).toBe(code);
    expect(stopped.stderr).toContain(`rp resume ${directory}`);
    const { status, steps, checkpoint } = resultOf(stopped);
    expect(status).toBe('stopped');
    expect((await loadCheckpoint(checkpoint)).position.step).toBe(steps);
    const resumed = await resumeExperiment(directory);
    const whole = JSON.parse(fs.readFileSync(path.join(root, 'undisturbed', 'result.json'), 'utf8'));
    expect(resumed.weights_sha256).toBe(whole.weights_sha256);
  });
});

/** The step of the last checkpoint that metrics.jsonl says was saved. */
function acknowledgedStep(directory: string): number {
  const file = path.join(directory, 'metrics.jsonl');
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n') : [];
  const saved = lines.filter((line) => line.includes('"type":"checkpoint"') && line.endsWith('}'));
  return saved.length > 0 ? (JSON.parse(saved.at(-1)!) as { step: number }).step : 0;
}

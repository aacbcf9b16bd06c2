/** Runs `rp` in this process, with its streams captured, on data small enough for a run to take a second. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { main } from '../../src/cli/main.js';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** @param onStderr sees every piece of stderr as it is written: the place to act in the middle of a run */
export async function rp(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = {},
  onStderr: (text: string) => void = () => {},
): Promise<Ran> {
  let stdout = '';
  let stderr = '';
  const write = (text: string) => {
    stderr += text;
    onStderr(text);
  };
  // One thread: networks this small gain nothing from more, and tests run beside each other.
  // RP_DEVICE=reference npm test reruns everything on another engine (STYLE §9).
  const device = process.env.RP_DEVICE ? { RP_DEVICE: process.env.RP_DEVICE } : {};
  const cli = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write },
    env: { RP_THREADS: '1', ...device, ...env },
  };
  const code = await main(argv, cli);
  return { code, stdout, stderr };
}

/**
 * A directory with a data set in CIFAR-10's format whose classes differ by colour: `train` and `test` images, found
 * by `--data cifar10 --data-dir`.
 */
export function tinyCifar(directory: string, train = 64, test = 32): string {
  const rows = (count: number, seed: number) => {
    let state = seed;
    const bytes = Buffer.alloc(count * 3073);
    for (let i = 0; i < count; i++) {
      const label = i % 10;
      bytes[i * 3073] = label;
      for (let pixel = 0; pixel < 3072; pixel++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        const colour = (label * 25 + 90 * Math.floor(pixel / 1024)) % 200;
        bytes[i * 3073 + 1 + pixel] = colour + (state >>> 26);
      }
    }
    return bytes;
  };
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(path.join(directory, 'data_batch_1.bin'), rows(train, 1));
  fs.writeFileSync(path.join(directory, 'test_batch.bin'), rows(test, 2));
  return directory;
}

/**
 * Loading: a damaged file is refused (CorruptError, exit code 4) with the newest whole one beside it offered by name;
 * nothing ever starts over silently.
 */
import path from 'node:path';
import { CorruptError, EnvironmentError } from '../errors.js';
import { maskHash } from '../masks/hash.js';
import type { Checkpoint } from './checkpoint.js';
import { decodeCheckpoint, scanCheckpoint } from './decode.js';
import { type Storage, systemStorage, withSource } from './storage.js';

export interface LoadOptions {
  readonly storage?: Storage;
}

/** Reads and checks one checkpoint file. */
export async function loadCheckpoint(file: string, options: LoadOptions = {}): Promise<Checkpoint> {
  const { storage = systemStorage } = options;
  try {
    const checkpoint = await withSource(storage, file, (source) => decodeCheckpoint(source, file));
    checkMaskHash(file, checkpoint);
    return checkpoint;
  } catch (error) {
    if (error instanceof CorruptError) throw error.withAdvice(await offer(storage, file));
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new EnvironmentError(`${file}: no such checkpoint. ${await offer(storage, file)}`.trim());
    }
    throw error;
  }
}

function checkMaskHash(file: string, { maskRecipe, graph, masks }: Checkpoint): void {
  if (maskRecipe === null) return;
  const hash = maskHash(graph, masks);
  if (hash !== maskRecipe.hash) throw new CorruptError(file, 0, `masks with hash ${maskRecipe.hash}`, hash);
}

/** A whole checkpoint: its file and where it stands. */
export interface FoundCheckpoint {
  readonly file: string;
  readonly step: number;
}

/** Whole checkpoints in a directory, newest (most steps) first. Damaged ones are left out. */
export async function validCheckpoints(
  directory: string,
  options: LoadOptions = {},
): Promise<FoundCheckpoint[]> {
  const { storage = systemStorage } = options;
  const found: FoundCheckpoint[] = [];
  for (const name of await storage.list(directory)) {
    if (!name.endsWith('.rpck')) continue;
    const file = path.join(directory, name);
    try {
      const { position } = await withSource(storage, file, (source) => scanCheckpoint(source, file));
      found.push({ file, step: position.step });
    } catch {
      // Damaged or unreadable: not one to offer.
    }
  }
  return found.sort((a, b) => b.step - a.step);
}

async function offer(storage: Storage, file: string): Promise<string> {
  const others = await validCheckpoints(path.dirname(file), { storage });
  const newest = others.find((other) => path.basename(other.file) !== path.basename(file));
  if (!newest) return 'No whole checkpoint lies beside it.';
  return `The newest whole one beside it is ${newest.file} (step ${newest.step}): pass that to go on from there.`;
}

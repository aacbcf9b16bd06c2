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

/** What `rp resume WHERE` goes on from. */
export interface Resumable {
  readonly file: string;
  /** The run directory. */
  readonly directory: string;
  /** Said to the user where it is not what they would expect. */
  readonly notice: string | null;
}

/**
 * The checkpoint to go on from: the file itself, or a run directory's `last.rpck`; where a crash left none, the newest
 * whole one, and says so.
 * @throws {EnvironmentError} when there is none
 */
export async function findResumable(where: string): Promise<Resumable> {
  if (where.endsWith('.rpck')) {
    return { file: where, directory: path.dirname(path.dirname(path.resolve(where))), notice: null };
  }
  const folder = path.join(where, 'checkpoints');
  const last = path.join(folder, 'last.rpck');
  const names = await systemStorage.list(folder);
  if (names.includes('last.rpck')) return { file: last, directory: where, notice: null };
  const [newest] = await validCheckpoints(folder);
  if (!newest) {
    throw new EnvironmentError(
      `${where}: expected a checkpoint (checkpoints/last.rpck) in a run directory, got none.`,
    );
  }
  const notice = `There is no ${last}; going on from ${newest.file} (step ${newest.step}).`;
  return { file: newest.file, directory: where, notice };
}

async function offer(storage: Storage, file: string): Promise<string> {
  const others = await validCheckpoints(path.dirname(file), { storage });
  const newest = others.find((other) => path.basename(other.file) !== path.basename(file));
  if (!newest) return 'No whole checkpoint lies beside it.';
  return `The newest whole one beside it is ${newest.file} (step ${newest.step}): pass that to go on from there.`;
}

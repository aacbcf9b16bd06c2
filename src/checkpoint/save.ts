/**
 * Saving a checkpoint so that no crash, full disk or bad write costs the one before: temporary file in the same
 * directory, fsync, read back and verify, keep the present file as `previous.rpck`, rename, fsync the directory.
 */
import path from 'node:path';
import { RunError } from '../errors.js';
import { type Checkpoint, tensorBytes } from './checkpoint.js';
import { scanCheckpoint } from './decode.js';
import { encodeCheckpoint } from './encode.js';
import { type Storage, type StorageFile, systemStorage, withSource } from './storage.js';

const temporarySuffix = '.rpck.tmp';
/** Name of the checkpoint before the present one, in the same directory. */
export const previousName = 'previous.rpck';

export interface SaveOptions {
  /** Keep the file that stood at the path as `previous.rpck`; default false: it is replaced. */
  readonly keepPrevious?: boolean;
  readonly storage?: Storage;
}

export interface SavedCheckpoint {
  readonly file: string;
  readonly bytes: number;
  /** Bytes that the same checkpoint of a dense network would take. */
  readonly denseBytes: number;
}

/** Saves `checkpoint` as `file` (`*.rpck`), whose directory exists. RunError: nothing was changed. */
export async function saveCheckpoint(
  file: string,
  checkpoint: Checkpoint,
  options: SaveOptions = {},
): Promise<SavedCheckpoint> {
  const { keepPrevious = false, storage = systemStorage } = options;
  const directory = path.dirname(file);
  const temporary = path.join(directory, `${path.basename(file, '.rpck')}${temporarySuffix}`);
  const { stored, dense } = tensorBytes(checkpoint);
  try {
    const free = await storage.freeBytes(directory);
    if (free < stored) throw new Error(`it needs ${stored} bytes, and ${free} are free`);
    const bytes = await write(storage, temporary, checkpoint);
    await withSource(storage, temporary, (source) => scanCheckpoint(source, temporary));
    if (keepPrevious) await keep(storage, file, path.join(directory, previousName));
    await storage.rename(temporary, file);
    await storage.syncDirectory(directory);
    return { file, bytes, denseBytes: bytes - stored + dense };
  } catch (error) {
    await storage.remove(temporary).catch(() => {}); // the first failure is the one to report
    const reason = error instanceof Error ? error.message : String(error);
    throw new RunError(`${file}: could not save the checkpoint: ${reason}. The one before is untouched.`, {
      cause: error,
    });
  }
}

/** Writes and syncs the whole file; its length. */
async function write(storage: Storage, file: string, checkpoint: Checkpoint): Promise<number> {
  const handle = await storage.create(file);
  try {
    let bytes = 0;
    for (const record of encodeCheckpoint(checkpoint)) {
      await writeAll(handle, record);
      bytes += record.length;
    }
    await handle.sync();
    return bytes;
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: StorageFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const count = await handle.write(bytes.subarray(done));
    if (count === 0) throw new Error('the system wrote nothing and gave no reason');
    done += count;
  }
}

/** Gives the present file a second name, so that at every instant one of the two is whole under `file`. */
async function keep(storage: Storage, file: string, previous: string): Promise<void> {
  const present = await storage.list(path.dirname(file));
  if (!present.includes(path.basename(file))) return;
  await storage.remove(previous);
  try {
    await storage.link(file, previous);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
    // No hard links here. A crash before the next rename leaves `previous` alone, where the loader finds it.
    await storage.rename(file, previous);
  }
}

/** Removes what a save that was killed left behind; the names removed. */
export async function removeStrayFiles(directory: string, storage: Storage = systemStorage): Promise<string[]> {
  const strays = (await storage.list(directory)).filter((name) => name.endsWith(temporarySuffix));
  for (const name of strays) await storage.remove(path.join(directory, name));
  return strays;
}

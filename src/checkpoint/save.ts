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

export interface SaveOptions {
  /** Checkpoints to keep, this one included: earlier ones become `previous.rpck`, `previous-2.rpck`, …; default 1. */
  readonly keep?: number;
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
  const { keep = 1, storage = systemStorage } = options;
  const directory = path.dirname(file);
  const temporary = path.join(directory, `${path.basename(file, '.rpck')}${temporarySuffix}`);
  const { stored, dense } = tensorBytes(checkpoint);
  try {
    const free = await storage.freeBytes(directory);
    if (free < stored) throw new Error(`it needs ${stored} bytes, and ${free} are free`);
    const bytes = await write(storage, temporary, checkpoint);
    await withSource(storage, temporary, (source) => scanCheckpoint(source, temporary));
    await keepEarlier(storage, file, keep - 1);
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

/** Gives the present file a second name, so that at every instant it stands whole under one, usually under both. */
async function keepEarlier(storage: Storage, file: string, count: number): Promise<void> {
  const directory = path.dirname(file);
  const present = await storage.list(directory);
  if (count < 1 || !present.includes(path.basename(file))) return;
  const name = (age: number) => path.join(directory, age === 1 ? 'previous.rpck' : `previous-${age}.rpck`);
  for (let age = count - 1; age >= 1; age--) {
    if (present.includes(path.basename(name(age)))) await storage.rename(name(age), name(age + 1));
  }
  await storage.remove(name(1));
  try {
    await storage.link(file, name(1));
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
    // No hard links here. A crash before the next rename leaves the other name alone, where resume finds it.
    await storage.rename(file, name(1));
  }
}

/** Removes what a save that was killed left behind; the names removed. */
export async function removeStrayFiles(
  directory: string,
  storage: Storage = systemStorage,
): Promise<string[]> {
  const strays = (await storage.list(directory)).filter((name) => name.endsWith(temporarySuffix));
  for (const name of strays) await storage.remove(path.join(directory, name));
  return strays;
}

/** The file system as saving and loading see it: small enough that a test can fail each call of a save. */
import { constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { ByteSource } from './decode.js';

export interface StorageFile {
  /** Writes at the end; like the system call, may write fewer bytes than given and says how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Reads from `position`; like the system call, may read fewer bytes than fit and says how many; 0 at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Storage {
  /** Creates or truncates. */
  create(file: string): Promise<StorageFile>;
  open(file: string): Promise<StorageFile>;
  rename(from: string, to: string): Promise<void>;
  /** A second name for the same file. */
  link(existing: string, name: string): Promise<void>;
  /** Whether it existed. */
  remove(file: string): Promise<boolean>;
  /** Names in a directory; none where it does not exist. */
  list(directory: string): Promise<string[]>;
  /** Bytes that an ordinary user may still write. */
  freeBytes(directory: string): Promise<number>;
  /** Makes renames in the directory durable. */
  syncDirectory(directory: string): Promise<void>;
}

class SystemFile implements StorageFile {
  constructor(private readonly handle: fs.FileHandle) {}
  async write(bytes: Uint8Array) {
    return (await this.handle.write(bytes)).bytesWritten;
  }
  async read(into: Uint8Array, position: number) {
    return (await this.handle.read(into, 0, into.length, position)).bytesRead;
  }
  async size() {
    return (await this.handle.stat()).size;
  }
  sync() {
    return this.handle.sync();
  }
  close() {
    return this.handle.close();
  }
}

const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT';

export const systemStorage: Storage = {
  create: async (file) => new SystemFile(await fs.open(file, 'w')),
  open: async (file) => new SystemFile(await fs.open(file, 'r')),
  rename: fs.rename,
  link: fs.link,
  remove: (file) =>
    fs.unlink(file).then(
      () => true,
      (error) => {
        if (isMissing(error)) return false;
        throw error;
      },
    ),
  list: (directory) =>
    fs.readdir(directory).catch((error) => {
      if (isMissing(error)) return [];
      throw error;
    }),
  freeBytes: async (directory) => {
    const { bavail, bsize } = await fs.statfs(directory);
    return bavail * bsize;
  },
  syncDirectory: async (directory) => {
    if (process.platform === 'win32') return; // directories cannot be opened there; renames are durable as they are
    const handle = await fs.open(directory, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** Runs `use` on an open file's bytes and closes it. */
export async function withSource<T>(
  storage: Storage,
  file: string,
  use: (source: ByteSource) => Promise<T>,
): Promise<T> {
  const handle = await storage.open(file);
  try {
    return await use({
      size: await handle.size(),
      read: (offset, length) => readExactly(handle, file, offset, length),
    });
  } finally {
    await handle.close();
  }
}

async function readExactly(
  handle: StorageFile,
  file: string,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let done = 0; done < length; ) {
    const count = await handle.read(bytes.subarray(done), offset + done);
    if (count === 0) throw new Error(`${path.basename(file)} became shorter while it was read`);
    done += count;
  }
  return bytes;
}

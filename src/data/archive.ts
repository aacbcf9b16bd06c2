/**
 * Unpacks a data set's tar.gz without trusting it: only the files that the data set has, by their full name and
 * within their size; no absolute paths, no `..`, no links, nothing twice, no more bytes than that. Every entry is
 * checked before a byte of it is written.
 */
import { closeSync, createReadStream, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { CorruptError } from '../errors.js';
import type { Archive } from './specs.js';

/** Headers and padding, over the files themselves. */
const OVERHEAD = 2 ** 20;

const sizeLimit = (file: Archive['files'][string]) => ('bytes' in file ? file.bytes : file.atMost);

/** Bytes that the archive's files may take. */
export const unpackedBytes = (archive: Archive): number =>
  Object.values(archive.files).reduce((sum, file) => sum + sizeLimit(file), 0);

/** Writes the archive's files into `into`, an empty folder. Throws CorruptError, and may leave files there. */
export async function unpackArchive(path: string, archive: Archive, into: string): Promise<void> {
  const refuse = (expected: string, got: string) => new CorruptError(path, 0, expected, got);
  const written = new Set<string>();
  const open = new Set<number>();
  let failure: unknown;
  const guard = (body: () => void) => {
    try {
      if (!failure) body();
    } catch (error) {
      failure = error;
    }
  };

  const accept = (entry: ReadEntry) => {
    const name = entry.path.replace(/^\.\//, '');
    if (entry.type === 'Directory' && (name === '' || name === `${archive.folder}/`)) return;
    const file = name.startsWith(`${archive.folder}/`) ? name.slice(archive.folder.length + 1) : '';
    // Own keys alone: an entry may be called `constructor`.
    const known = Object.hasOwn(archive.files, file) ? archive.files[file] : undefined;
    if ((entry.type !== 'File' && entry.type !== 'OldFile') || !known || written.has(file)) {
      throw refuse(
        `the files of ${archive.folder}/, each once`,
        `the entry ${JSON.stringify(entry.path)} (${entry.type})`,
      );
    }
    if ('bytes' in known ? entry.size !== known.bytes : entry.size > known.atMost) {
      const expected = 'bytes' in known ? `${known.bytes}` : `at most ${known.atMost}`;
      throw refuse(`${expected} bytes of ${file}`, `${entry.size}`);
    }
    written.add(file);
    const handle = openSync(join(into, file), 'wx');
    open.add(handle);
    entry.on('data', (chunk: Buffer) =>
      guard(() => {
        for (let done = 0; done < chunk.length; ) done += writeSync(handle, chunk, done);
      }),
    );
    entry.on('end', () =>
      guard(() => {
        fsyncSync(handle);
        closeSync(handle);
        open.delete(handle);
      }),
    );
  };

  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      guard(() => accept(entry));
      entry.resume();
    },
  });
  parser.on('error', (error: Error) => {
    failure ??= refuse('a whole tar.gz archive', error.message);
  });
  const limit = unpackedBytes(archive) + OVERHEAD;
  let unfolded = 0;
  try {
    await pipeline(createReadStream(path), createGunzip(), async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        unfolded += chunk.length;
        guard(() => {
          if (unfolded > limit) throw refuse(`at most ${limit} bytes unpacked`, 'more');
          parser.write(chunk);
        });
        if (failure) throw failure;
      }
      const ended = new Promise<void>((resolve) => {
        parser.once('end', resolve);
        parser.once('error', () => resolve());
      });
      parser.end();
      await ended;
      if (failure) throw failure;
    });
  } catch (error) {
    if (error === failure || (error as NodeJS.ErrnoException).syscall) throw error;
    throw refuse('a whole tar.gz archive', (error as Error).message);
  } finally {
    for (const handle of open) closeSync(handle);
  }
  const absent = Object.keys(archive.files).filter((f) => 'bytes' in archive.files[f]! && !written.has(f));
  if (absent.length > 0) throw refuse(`${absent.join(', ')} in it`, 'an archive without');
}

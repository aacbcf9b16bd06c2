/**
 * Downloads a data set: resumes what an earlier try left, checks the published checksum before it unpacks, and puts
 * the folder in place in one rename, so that a data set is there whole or not at all.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CorruptError, EnvironmentError } from '../errors.js';
import { unknownName } from '../suggest.js';
import { unpackArchive, unpackedBytes } from './archive.js';
import { type Archive, type DownloadableName, naturalSpecs } from './specs.js';

export interface DownloadProgress {
  readonly phase: 'download' | 'verify' | 'unpack';
  /** Bytes here so far, those of an earlier try included. */
  readonly received: number;
  /** Bytes in all, or null where the server does not say. */
  readonly total: number | null;
}

export interface DownloadOptions {
  /** Instead of the official folder: a mirror that has the same file. */
  readonly baseUrl?: string | undefined;
  /** Aborting keeps what came, for the next try to resume. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

export interface Downloaded {
  readonly folder: string;
  /** False: it was there already. */
  readonly downloaded: boolean;
}

/** Larger than any archive of specs.ts. */
const MAX_ARCHIVE = 512 * 2 ** 20;
/** Interrupted transfers in a row that bring nothing before giving up. */
const MAX_IDLE_TRIES = 3;
const FIRST_PAUSE_MS = 200;

export const downloadableNames: readonly DownloadableName[] = ['cifar10', 'cifar100'];

/**
 * Brings `cifar10` or `cifar100` (binary version) into a sub-folder of `dir` and returns it.
 * Throws EnvironmentError where the server or the disk fails (a partial file stays and is resumed), CorruptError where
 * checksum or archive are wrong (nothing stays).
 */
export async function downloadDataset(
  name: string,
  dir: string,
  options: DownloadOptions = {},
): Promise<Downloaded> {
  if (!(downloadableNames as readonly string[]).includes(name)) {
    throw unknownName('rp data get', 'data set', name, downloadableNames);
  }
  const { archive } = naturalSpecs[name as DownloadableName];
  const url = options.baseUrl
    ? `${options.baseUrl.replace(/\/+$/, '')}/${basename(archive.url)}`
    : archive.url;
  return downloadArchive({ ...archive, url }, dir, options);
}

/** The same for any archive. */
export async function downloadArchive(
  archive: Archive,
  dir: string,
  { signal, onProgress }: DownloadOptions = {},
): Promise<Downloaded> {
  const folder = join(dir, archive.folder);
  if (await isComplete(folder, archive)) return { folder, downloaded: false };
  await mkdir(dir, { recursive: true });
  await removeStray(dir, archive);
  // The archive, which is no larger than what is in it, and what is in it.
  await requireSpace(dir, 2 * unpackedBytes(archive));

  const part = join(dir, `.${basename(new URL(archive.url).pathname)}.part`);
  let resumed = (await sizeOf(part)) > 0;
  for (;;) {
    const total = await fetchInto(part, archive.url, signal, onProgress);
    const received = await sizeOf(part);
    onProgress?.({ phase: 'verify', received, total });
    const md5 = await md5Of(part, signal);
    if (md5 === archive.md5) break;
    await rm(part, { force: true });
    // What an earlier try left may belong to another file: one fresh start.
    if (!resumed)
      throw new CorruptError(archive.url, 0, `MD5 ${archive.md5}`, md5, 'The download was deleted.');
    resumed = false;
  }

  onProgress?.({ phase: 'unpack', received: 0, total: null });
  const temporary = join(dir, `${temporaryPrefix(archive)}${randomUUID()}`);
  await mkdir(temporary);
  try {
    await unpackArchive(part, archive, temporary);
    signal?.throwIfAborted();
    await putInPlace(temporary, folder);
    await rm(part, { force: true });
  } catch (error) {
    if (error instanceof CorruptError) await rm(part, { force: true });
    throw error;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return { folder, downloaded: true };
}

const temporaryPrefix = (archive: Archive) => `.${archive.folder}.tmp-`;

async function isComplete(folder: string, archive: Archive): Promise<boolean> {
  for (const [file, size] of Object.entries(archive.files)) {
    if ('bytes' in size && (await sizeOf(join(folder, file))) !== size.bytes) return false;
  }
  return true;
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (info) => info.size,
    () => 0,
  );
}

/** Half-unpacked folders of a killed run. */
async function removeStray(dir: string, archive: Archive): Promise<void> {
  for (const name of await readdir(dir)) {
    if (name.startsWith(temporaryPrefix(archive)))
      await rm(join(dir, name), { recursive: true, force: true });
  }
}

async function requireSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bavail * bsize < bytes) {
    throw new EnvironmentError(
      `${dir}: expected ${Math.ceil(bytes / 2 ** 20)} MiB of free space, got ${Math.floor((bavail * bsize) / 2 ** 20)}.`,
    );
  }
}

/** Transfers until the file is whole, over any number of broken connections that still bring bytes. */
async function fetchInto(
  part: string,
  url: string,
  signal: AbortSignal | undefined,
  onProgress: DownloadOptions['onProgress'],
): Promise<number | null> {
  for (let idle = 0; ; ) {
    const before = await sizeOf(part);
    try {
      return await transfer(part, before, url, signal, onProgress);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof EnvironmentError || isDiskError(error)) throw error;
      idle = (await sizeOf(part)) > before ? 0 : idle + 1;
      if (idle >= MAX_IDLE_TRIES) {
        throw new EnvironmentError(
          `GET ${url}: the transfer failed at byte ${await sizeOf(part)} (${causeOf(error)}). ` +
            `What came is kept: run it again to resume.`,
          { cause: error },
        );
      }
      await pause(FIRST_PAUSE_MS * 2 ** idle, signal);
    }
  }
}

/** One connection: appends from byte `from`, or starts over where the server ignores the range. */
async function transfer(
  part: string,
  from: number,
  url: string,
  signal: AbortSignal | undefined,
  onProgress: DownloadOptions['onProgress'],
): Promise<number | null> {
  // identity: a transparently compressed answer would have another length than the file.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (from > 0) headers.range = `bytes=${from}-`;
  const response = await fetch(url, { headers, signal: signal ?? null });
  let start = from;
  if (response.status === 416) {
    // Nothing after byte `from`: the part is whole, or longer than the file, which its checksum tells.
    await response.body?.cancel();
    return from;
  }
  if (response.status === 200) {
    start = 0;
  } else if (response.status !== 206 || from === 0 || rangeStart(response) !== from) {
    await response.body?.cancel();
    throw new EnvironmentError(
      `GET ${url}: expected status 200${from > 0 ? ` or 206 from byte ${from}` : ''}, got ${response.status}` +
        `${response.status === 206 ? ` (${response.headers.get('content-range')})` : ` ${response.statusText}`}.`,
    );
  }
  const length = response.headers.get('content-length');
  const total = length === null ? null : start + Number(length);
  if (total !== null && !(total <= MAX_ARCHIVE)) {
    await response.body?.cancel();
    throw new EnvironmentError(`GET ${url}: expected at most ${MAX_ARCHIVE} bytes, got ${total}.`);
  }

  const file = await open(part, start === 0 ? 'w' : 'a');
  let received = start;
  try {
    onProgress?.({ phase: 'download', received, total });
    for await (const chunk of response.body ?? []) {
      received += chunk.length;
      if (received > MAX_ARCHIVE) {
        throw new EnvironmentError(`GET ${url}: expected at most ${MAX_ARCHIVE} bytes, got more.`);
      }
      await file.writeFile(chunk);
      onProgress?.({ phase: 'download', received, total });
    }
    await file.sync();
  } finally {
    await file.close();
  }
  if (total !== null && received !== total) throw new Error(`expected ${total} bytes, got ${received}`);
  return total;
}

const rangeStart = (response: Response) =>
  Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);

const isDiskError = (error: unknown) =>
  ['write', 'open', 'close', 'fsync', 'ftruncate'].includes((error as NodeJS.ErrnoException).syscall ?? '');

function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

async function md5Of(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('md5');
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** One rename; into a folder that exists already (an incomplete one), file by file. */
async function putInPlace(temporary: string, folder: string): Promise<void> {
  const exists = await stat(folder).then(
    () => true,
    () => false,
  );
  if (!exists) return rename(temporary, folder);
  for (const name of await readdir(temporary)) await rename(join(temporary, name), join(folder, name));
}

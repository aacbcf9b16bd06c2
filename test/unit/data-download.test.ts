import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Header } from 'tar';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DownloadProgress, downloadArchive, downloadDataset } from '../../src/data/download.js';
import type { Archive } from '../../src/data/specs.js';
import { CorruptError, EnvironmentError, UsageError } from '../../src/errors.js';
import { randomBytes } from '../helpers/datasets.js';
import { temporaryDirectory } from '../helpers/temporary.js';

const root = temporaryDirectory('download');
let directories = 0;
const fresh = () => join(root, `${directories++}`);

type Entry = {
  path: string;
  data?: Uint8Array;
  type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'FIFO';
  linkpath?: string;
  size?: number;
};

/** A tar.gz, entry by entry, whatever the names say. */
function tarGz(entries: Entry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const { path, data = new Uint8Array(), type = 'File', linkpath, size = data.length } of entries) {
    const header = Buffer.alloc(512);
    const mode = type === 'Directory' ? 0o755 : 0o644;
    new Header({ path, type, size, mode, mtime: new Date(0), ...(linkpath ? { linkpath } : {}) }).encode(
      header,
    );
    blocks.push(header, Buffer.from(data), Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  blocks.push(Buffer.alloc(1024));
  return gzipSync(Buffer.concat(blocks));
}

const train = randomBytes(300_000, 1);
const test = randomBytes(50_000, 2);
const good: Entry[] = [
  { path: 'set/', type: 'Directory' },
  { path: 'set/train.bin', data: train },
  { path: './set/readme.txt', data: Buffer.from('hello') },
  { path: 'set/test.bin', data: test },
];
const files: Archive['files'] = {
  'train.bin': { bytes: train.length },
  'test.bin': { bytes: test.length },
  'readme.txt': { atMost: 100 },
};

// ---- a server whose manners each test chooses

let body: Buffer = tarGz(good);
let respond: (request: IncomingMessage, response: ServerResponse) => void;
const requests: (string | undefined)[] = [];
const server = createServer((request, response) => {
  requests.push(request.headers.range);
  respond(request, response);
});
let base = '';
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** Honours ranges; `cutAfter` bytes of each answer break the connection, up to `cuts` times. */
function serve(
  bytes: Buffer,
  { cutAfter = Number.POSITIVE_INFINITY, cuts = 0, ranges = true, length = true } = {},
): void {
  body = bytes;
  requests.length = 0;
  respond = (request, response) => {
    const from = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    if (from >= body.length) {
      response.writeHead(416, { 'content-range': `bytes */${body.length}` }).end();
      return;
    }
    const part = body.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      ...(length ? { 'content-length': part.length } : {}),
      ...(from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
    });
    if (part.length > cutAfter && cuts-- > 0) {
      response.write(part.subarray(0, cutAfter), () => setTimeout(() => response.destroy(), 20));
    } else {
      response.end(part);
    }
  };
}

const archiveOf = (bytes: Buffer, change: Partial<Archive> = {}): Archive => ({
  url: `${base}/set.tar.gz`,
  md5: createHash('md5').update(bytes).digest('hex'),
  folder: 'set',
  files,
  ...change,
});

const part = (dir: string) => join(dir, '.set.tar.gz.part');

function expectWhole(dir: string): void {
  expect(readdirSync(dir)).toEqual(['set']);
  expect(readdirSync(join(dir, 'set')).sort()).toEqual(['readme.txt', 'test.bin', 'train.bin']);
  expect(readFileSync(join(dir, 'set', 'train.bin')).equals(train)).toBe(true);
  expect(readFileSync(join(dir, 'set', 'test.bin')).equals(test)).toBe(true);
}

describe('a download', () => {
  it('unpacks the folder, with progress, and leaves nothing else', async () => {
    const dir = fresh();
    serve(tarGz(good));
    const seen: DownloadProgress[] = [];
    const result = await downloadArchive(archiveOf(body), dir, { onProgress: (p) => seen.push(p) });
    expect(result).toEqual({ folder: join(dir, 'set'), downloaded: true });
    expectWhole(dir);
    const received = seen.filter((p) => p.phase === 'download').map((p) => p.received);
    expect(received).toEqual([...received].sort((a, b) => a - b));
    expect(received.at(-1)).toBe(body.length);
    expect(seen.every((p) => p.phase === 'unpack' || p.total === body.length)).toBe(true);
    expect([...new Set(seen.map((p) => p.phase))]).toEqual(['download', 'verify', 'unpack']);
  });

  it('is not repeated when the files are there', async () => {
    const dir = fresh();
    serve(tarGz(good));
    await downloadArchive(archiveOf(body), dir);
    requests.length = 0;
    expect((await downloadArchive(archiveOf(body), dir)).downloaded).toBe(false);
    expect(requests).toEqual([]);
  });

  it('completes a folder that has some of its files only', async () => {
    const dir = fresh();
    mkdirSync(join(dir, 'set'), { recursive: true });
    writeFileSync(join(dir, 'set', 'train.bin'), 'cut');
    serve(tarGz(good));
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
  });

  it('resumes over broken connections, from the byte it has', async () => {
    const dir = fresh();
    serve(tarGz(good), { cutAfter: 100_000, cuts: 3 });
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
    expect(requests.length).toBe(4);
    expect(requests[0]).toBeUndefined();
    const starts = requests.slice(1).map((range) => Number(/^bytes=(\d+)-$/.exec(range!)![1]));
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(starts[0]).toBeGreaterThan(0);
  });

  it('starts over where the server ignores ranges', async () => {
    const dir = fresh();
    serve(tarGz(good), { cutAfter: 100_000, cuts: 1, ranges: false });
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
  });

  it('works where the server does not say the length', async () => {
    const dir = fresh();
    serve(tarGz(good), { length: false });
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
  });

  it('resumes what an earlier process left, whole or in part', async () => {
    for (const share of [0.3, 1]) {
      const dir = fresh();
      mkdirSync(dir);
      serve(tarGz(good));
      writeFileSync(part(dir), body.subarray(0, Math.floor(share * body.length)));
      await downloadArchive(archiveOf(body), dir);
      expectWhole(dir);
      expect(requests).toEqual([`bytes=${Math.floor(share * body.length)}-`]);
    }
  });

  it('starts afresh, once, where what was left belongs to another file', async () => {
    for (const stale of [100, 10_000_000]) {
      const dir = fresh();
      mkdirSync(dir);
      serve(tarGz(good));
      writeFileSync(part(dir), new Uint8Array(stale));
      await downloadArchive(archiveOf(body), dir);
      expectWhole(dir);
      expect(requests).toEqual([`bytes=${stale}-`, undefined]);
    }
  });

  it('gives up on a server that brings nothing, keeps the part, and says so', async () => {
    const dir = fresh();
    serve(tarGz(good));
    respond = (_, response) => {
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, 1000), () => setTimeout(() => response.destroy(), 10));
    };
    const error = await downloadArchive(archiveOf(body), dir).catch((e) => e);
    expect(error).toBeInstanceOf(EnvironmentError);
    expect(error.message).toContain('run it again to resume');
    expect(readdirSync(dir)).toEqual(['.set.tar.gz.part']);
    serve(tarGz(good));
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
  });

  it('stops on abort at once, and resumes later', async () => {
    const dir = fresh();
    serve(tarGz(good));
    respond = (_, response) => {
      response.writeHead(200, { 'content-length': body.length });
      response.write(body.subarray(0, 50_000)); // and never the rest
    };
    const abort = new AbortController();
    const work = downloadArchive(archiveOf(body), dir, {
      signal: abort.signal,
      onProgress: ({ received }) => received >= 50_000 && abort.abort(),
    });
    await expect(work).rejects.toThrow(/abort/i);
    expect(readFileSync(part(dir)).length).toBe(50_000);
    serve(tarGz(good));
    await downloadArchive(archiveOf(body), dir);
    expectWhole(dir);
    expect(requests).toEqual(['bytes=50000-']);
  });

  it('says which address failed, and how', async () => {
    respond = (_, response) => response.writeHead(404).end('no');
    const error = await downloadArchive(archiveOf(body), fresh()).catch((e) => e);
    expect(error).toBeInstanceOf(EnvironmentError);
    expect(error.message).toContain(`GET ${base}/set.tar.gz: expected status 200, got 404`);
    const closed = { ...archiveOf(body), url: 'http://127.0.0.1:9/set.tar.gz' };
    await expect(downloadArchive(closed, fresh())).rejects.toThrow(EnvironmentError);
  });

  it('refuses what is larger than any data set, by length or by flow', async () => {
    respond = (_, response) => {
      response.writeHead(200, { 'content-length': 2 ** 40 });
      response.write('x');
    };
    await expect(downloadArchive(archiveOf(body), fresh())).rejects.toThrow('expected at most');
  });
});

describe('a wrong archive', () => {
  it('of another checksum is an error, and nothing stays', async () => {
    const dir = fresh();
    serve(tarGz(good));
    const damaged = Buffer.from(body);
    damaged[1000]! ^= 1;
    const archive = archiveOf(body);
    serve(damaged);
    const error = await downloadArchive(archive, dir).catch((e) => e);
    expect(error).toBeInstanceOf(CorruptError);
    expect(error.exitCode).toBe(4);
    expect(error.message).toContain(`expected MD5 ${archive.md5}`);
    expect(readdirSync(dir)).toEqual([]);
  });

  const evil: Record<string, Entry[]> = {
    'climbing out with ..': [...good, { path: '../escaped.bin', data: test }],
    'climbing out from inside': [...good, { path: 'set/../../escaped.bin', data: test }],
    'an absolute path': [...good, { path: '/tmp/rp-escaped.bin', data: test }],
    'a symbolic link': [
      { path: 'set/train.bin', type: 'SymbolicLink', linkpath: '/etc/passwd' },
      ...good.slice(2),
    ],
    'a hard link': [...good, { path: 'set/readme.txt', type: 'Link', linkpath: '/etc/passwd' }],
    'a folder that is a link': [{ path: 'set', type: 'SymbolicLink', linkpath: '/tmp' }, ...good.slice(1)],
    'a pipe': [...good.slice(0, 3), { path: 'set/test.bin', type: 'FIFO' }],
    'a file it should not have': [...good, { path: 'set/run.sh', data: test }],
    "an object's own name": [...good, { path: 'set/constructor', data: test }],
    'a file twice': [...good, { path: 'set/test.bin', data: test }],
    'a file of another size': [...good.slice(0, 3), { path: 'set/test.bin', data: test.subarray(1) }],
    'a text that is too long': [...good.slice(0, 2), { path: 'set/readme.txt', data: test }, good[3]!],
    'a missing file': good.slice(0, 3),
    'far more bytes than its files': [...good, { path: 'set/zeros.bin', data: new Uint8Array(4e6) }],
  };
  for (const [name, entries] of Object.entries(evil)) {
    it(`is refused: ${name}`, async () => {
      const dir = fresh();
      serve(tarGz(entries));
      const error = await downloadArchive(archiveOf(body), dir).catch((e) => e);
      expect(error).toBeInstanceOf(CorruptError);
      expect(readdirSync(dir)).toEqual([]);
      expect(existsSync(join(root, 'escaped.bin'))).toBe(false);
      expect(existsSync('/tmp/rp-escaped.bin')).toBe(false);
    });
  }

  it('is refused: cut off, no gzip, no tar, an entry that claims more than it has', async () => {
    const whole = tarGz(good);
    for (const bytes of [
      whole.subarray(0, 1000),
      whole.subarray(0, whole.length - 5),
      Buffer.from('not an archive at all'),
      gzipSync(randomBytes(20_000)),
      tarGz([...good.slice(0, 3), { path: 'set/test.bin', data: test.subarray(0, 100), size: test.length }]),
    ]) {
      const dir = fresh();
      serve(bytes);
      const error = await downloadArchive(archiveOf(bytes), dir).catch((e) => e);
      expect(error).toBeInstanceOf(CorruptError);
      expect(readdirSync(dir)).toEqual([]);
    }
  });
});

describe('downloadDataset', () => {
  it('asks the mirror for the official file name', async () => {
    let asked = '';
    respond = (request, response) => {
      asked = request.url!;
      response.writeHead(404).end();
    };
    await expect(downloadDataset('cifar100', fresh(), { baseUrl: `${base}/mirror/` })).rejects.toThrow('404');
    expect(asked).toBe('/mirror/cifar-100-binary.tar.gz');
  });

  it('refuses a file that is not the official one', async () => {
    const dir = fresh();
    serve(tarGz(good));
    const error = await downloadDataset('cifar10', dir, { baseUrl: base }).catch((e) => e);
    expect(error.message).toContain('expected MD5 c32a1d4ab5d03f1284b67883e8d87530');
    expect(readdirSync(dir)).toEqual([]);
  });

  it('knows its names', async () => {
    await expect(downloadDataset('cifar', fresh())).rejects.toThrow(UsageError);
    await expect(downloadDataset('cifar-10', fresh())).rejects.toThrow('Did you mean "cifar10"?');
  });
});

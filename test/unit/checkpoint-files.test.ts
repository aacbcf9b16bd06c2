import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadCheckpoint, validCheckpoints } from '../../src/checkpoint/load.js';
import { removeStrayFiles, saveCheckpoint } from '../../src/checkpoint/save.js';
import { type Storage, type StorageFile, systemStorage } from '../../src/checkpoint/storage.js';
import { CorruptError, EnvironmentError, RunError } from '../../src/errors.js';
import { encoded, smallCheckpoint } from '../helpers/checkpoints.js';

let directory: string;
let last: string;
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), 'rp-checkpoint-'));
  last = path.join(directory, 'last.rpck');
});
afterEach(() => fs.rm(directory, { recursive: true }));

const names = async () => (await fs.readdir(directory)).sort();

type Fault = 'EIO' | 'ENOSPC' | 'short write' | 'lost write' | 'short read';
const systemError = (code: string) => Object.assign(new Error(`${code}: simulated`), { code });

/** Storage whose call number `at` fails; `calls` counts them, `hit` says whether the fault could apply to that call. */
function faulty(fault: Fault, at: number) {
  const state = { calls: 0, hit: false };
  const call = async <T>(work: () => Promise<T>, instead?: () => Promise<T>): Promise<T> => {
    if (state.calls++ !== at) return work();
    if (fault === 'EIO' || fault === 'ENOSPC') {
      state.hit = true;
      throw systemError(fault);
    }
    if (!instead) return work();
    state.hit = true;
    return instead();
  };
  const file = (inner: StorageFile): StorageFile => ({
    write: (bytes) =>
      call(
        () => inner.write(bytes),
        fault === 'short write'
          ? () => inner.write(bytes.subarray(0, bytes.length >> 1))
          : fault === 'lost write' // claims the whole, writes the half
            ? async () => {
                await inner.write(bytes.subarray(0, bytes.length >> 1));
                return bytes.length;
              }
            : undefined,
      ),
    read: (into, position) =>
      call(
        () => inner.read(into, position),
        fault === 'short read'
          ? () => inner.read(into.subarray(0, (into.length + 1) >> 1), position)
          : undefined,
      ),
    size: () => call(() => inner.size()),
    sync: () => call(() => inner.sync()),
    close: async () => {
      // A failing close still gives the descriptor back, as the system's does.
      await inner.close();
      await call(async () => {});
    },
  });
  const storage: Storage = {
    create: (name) => call(async () => file(await systemStorage.create(name))),
    open: (name) => call(async () => file(await systemStorage.open(name))),
    rename: (from, to) => call(() => systemStorage.rename(from, to)),
    link: (from, to) => call(() => systemStorage.link(from, to)),
    remove: (name) => call(() => systemStorage.remove(name)),
    list: (name) => call(() => systemStorage.list(name)),
    freeBytes: (name) => call(() => systemStorage.freeBytes(name)),
    syncDirectory: (name) => call(() => systemStorage.syncDirectory(name)),
  };
  return { state, storage };
}

describe('saveCheckpoint', () => {
  it('writes a file that loads, and says how large it and its dense twin are', async () => {
    const checkpoint = smallCheckpoint();
    const saved = await saveCheckpoint(last, checkpoint);
    expect(await loadCheckpoint(last)).toEqual(checkpoint);
    expect(saved.bytes).toBe((await fs.stat(last)).size);
    expect(saved.denseBytes - saved.bytes).toBe(2 * 4 * (54 - 18) - 7);
    expect(await names()).toEqual(['last.rpck']);
  });

  it('keeps as many earlier checkpoints as asked, newest first', async () => {
    for (const step of [1, 2, 3, 4]) await saveCheckpoint(last, smallCheckpoint({ step }), { keep: 3 });
    expect(await names()).toEqual(['last.rpck', 'previous-2.rpck', 'previous.rpck']);
    expect((await validCheckpoints(directory)).map(({ step }) => step)).toEqual([4, 3, 2]);
  });

  it.each(['EIO', 'ENOSPC', 'lost write'] as const)(
    'leaves the one before intact at %s in any call',
    async (fault) => {
      let refused = 0;
      for (let at = 0; ; at++) {
        await saveCheckpoint(last, smallCheckpoint({ step: 1 }));
        const { state, storage } = faulty(fault, at);
        const attempt = await saveCheckpoint(last, smallCheckpoint({ step: 2 }), { keep: 2, storage }).catch(
          (e) => e,
        );
        const { position } = await loadCheckpoint(last);
        if (state.hit && attempt instanceof Error) {
          refused++;
          expect(attempt, `call ${at}`).toBeInstanceOf(RunError);
          expect(attempt.message).toContain('last.rpck: could not save the checkpoint: ');
          // Only the very last call comes behind the rename: then the new one stands, and whole.
          expect([1, 2]).toContain(position.step);
        } else {
          expect(state.hit, `call ${at} of ${fault} went unnoticed`).toBe(false);
          expect(position.step).toBe(2);
        }
        for (const name of await names()) if (name !== 'last.rpck') await fs.rm(path.join(directory, name));
        if (at >= state.calls) break;
      }
      expect(refused).toBeGreaterThan(fault === 'lost write' ? 8 : 30);
    },
  );

  it.each(['short write', 'short read'] as const)('goes on after a %s in any call', async (fault) => {
    let hits = 0;
    for (let at = 0; ; at++) {
      const { state, storage } = faulty(fault, at);
      await saveCheckpoint(last, smallCheckpoint({ step: at }), { storage });
      expect((await loadCheckpoint(last)).position.step).toBe(at);
      if (state.hit) hits++;
      if (at >= state.calls) break;
    }
    expect(hits).toBeGreaterThan(8);
  });

  it('refuses before it writes anything when the disk has too little room', async () => {
    await saveCheckpoint(last, smallCheckpoint({ step: 1 }));
    const storage = { ...systemStorage, freeBytes: async () => 100 };
    await expect(saveCheckpoint(last, smallCheckpoint(), { storage })).rejects.toThrow(
      /it needs \d+ bytes, and 100 are free\. The one before is untouched/,
    );
    expect(await names()).toEqual(['last.rpck']);
    expect((await loadCheckpoint(last)).position.step).toBe(1);
  });

  it('works where the file system has no hard links', async () => {
    const link = async () => {
      throw systemError('EPERM');
    };
    const storage = { ...systemStorage, link };
    for (const step of [1, 2]) await saveCheckpoint(last, smallCheckpoint({ step }), { keep: 2, storage });
    expect((await validCheckpoints(directory)).map(({ step }) => step)).toEqual([2, 1]);
  });

  it('has its stray temporary files removed, and nothing else', async () => {
    await saveCheckpoint(last, smallCheckpoint());
    await fs.writeFile(path.join(directory, 'last.rpck.tmp'), 'half');
    await fs.writeFile(path.join(directory, 'notes.tmp'), 'mine');
    expect(await removeStrayFiles(directory)).toEqual(['last.rpck.tmp']);
    expect(await names()).toEqual(['last.rpck', 'notes.tmp']);
    expect(await removeStrayFiles(path.join(directory, 'absent'))).toEqual([]);
  });
});

describe('loadCheckpoint', () => {
  it('refuses a damaged file and offers the newest whole one', async () => {
    for (const step of [1, 2, 3]) await saveCheckpoint(last, smallCheckpoint({ step }), { keep: 3 });
    const bytes = encoded(smallCheckpoint());
    bytes[bytes.length - 50]! ^= 1;
    await fs.writeFile(last, bytes);
    const error = await loadCheckpoint(last).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(CorruptError);
    expect(error.exitCode).toBe(4);
    expect(error.message).toMatch(
      /last\.rpck: damaged at byte \d+: expected .*, got .*previous\.rpck \(step 2\)/,
    );
  });

  it('says so where no whole one is left, or none was there', async () => {
    await fs.writeFile(last, 'nothing of the kind');
    await expect(loadCheckpoint(last)).rejects.toThrow('No whole checkpoint lies beside it.');
    await expect(loadCheckpoint(path.join(directory, 'best.rpck'))).rejects.toThrow(EnvironmentError);
  });

  it('refuses masks that are not those of the recipe', async () => {
    const maskRecipe = {
      ...{ policy: 'erk', density: 0.1, sampler: 'bernoulli', granularity: 'weight', seed: 17 },
      ...{ generator: 'philox', densities: [0.25, 0], hash: 'abc' },
    };
    await saveCheckpoint(last, { ...smallCheckpoint(), maskRecipe });
    await expect(loadCheckpoint(last)).rejects.toThrow('expected masks with hash abc, got');
  });
});

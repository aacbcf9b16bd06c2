import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { availableMemory, fitBatch, largestFittingBatch } from '../../src/engine/memory.js';
import { EnvironmentError } from '../../src/errors.js';

const MiB = 2 ** 20;

describe('largestFittingBatch', () => {
  it('is the largest that fits, found in few plans', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(2000), fc.integer({ min: 1, max: 20 }), (limit, budget, step) => {
        // Memory grows by blocks of images, as the cpu engine's does.
        const bytesOf = (n: number) => Math.ceil(n / step) * step + 7;
        let plans = 0;
        const counted = (n: number) => {
          plans++;
          expect(n).toBeGreaterThanOrEqual(1);
          expect(n).toBeLessThanOrEqual(limit);
          return bytesOf(n);
        };
        let expected = 0;
        for (let n = 1; n <= limit; n++) if (bytesOf(n) <= budget) expected = n;
        expect(largestFittingBatch(limit, budget, counted)).toBe(expected);
        expect(plans).toBeLessThanOrEqual(12);
      }),
    );
  });
});

describe('fitBatch', () => {
  const perImage = (n: number) => n * 100 * MiB;

  it('keeps a batch that fits', () => {
    const wanted = { batchSize: 192, accumulate: 4 };
    expect(fitBatch(wanted, false, perImage(192), perImage)).toEqual(wanted);
    expect(fitBatch(wanted, true, perImage(192), perImage)).toEqual(wanted);
  });

  it('takes the largest divisor of the global batch that fits, and keeps the global batch', () => {
    expect(fitBatch({ batchSize: 192, accumulate: 4 }, false, perImage(191), perImage)).toEqual({
      batchSize: 128,
      accumulate: 6,
    });
    expect(fitBatch({ batchSize: 192, accumulate: 4 }, false, perImage(40), perImage)).toEqual({
      batchSize: 32,
      accumulate: 24,
    });
    expect(fitBatch({ batchSize: 127, accumulate: 1 }, false, perImage(100), perImage)).toEqual({
      batchSize: 1,
      accumulate: 127,
    });
  });

  it('refuses a given batch that does not fit, naming the largest that does', () => {
    const given = () => fitBatch({ batchSize: 192, accumulate: 4 }, true, perImage(50.5), perImage);
    expect(given).toThrow(EnvironmentError);
    expect(given).toThrow(
      '--batch-size 192 needs 18.75 GiB, but 4.93 GiB may be taken. The largest that fits is 50: pass --batch-size 50, or raise --memory.',
    );
  });

  it('says what one image needs where not even that fits', () => {
    for (const given of [true, false]) {
      expect(() => fitBatch({ batchSize: 8, accumulate: 1 }, given, 50 * MiB, perImage)).toThrow(
        '--memory: expected at least 0.10 GiB, which a batch of 1 needs, got 0.05 GiB.',
      );
    }
  });
});

describe('availableMemory', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'rp-memory-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function put(files: Record<string, string | number>): void {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), `${text}\n`);
    }
  }
  const meminfo = { 'proc/meminfo': 'MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4096 kB' };

  it('is what the kernel calls available, without a control group', () => {
    put(meminfo);
    expect(availableMemory(root)).toBe(4 * MiB);
  });

  it('is what a version 2 group leaves, an ancestor’s limit included, page cache free', () => {
    put({
      ...meminfo,
      'proc/self/cgroup': '0::/outer/inner',
      'sys/fs/cgroup/outer/inner/memory.max': 'max',
      'sys/fs/cgroup/outer/inner/memory.current': 100,
      'sys/fs/cgroup/outer/memory.max': 3 * MiB,
      'sys/fs/cgroup/outer/memory.current': 2 * MiB,
      'sys/fs/cgroup/outer/memory.stat': `anon 5\ninactive_file ${MiB / 2}\n`,
    });
    expect(availableMemory(root)).toBe(1.5 * MiB);
  });

  it('is what a version 1 group leaves; in a container the path may be the host’s', () => {
    put({
      ...meminfo,
      'proc/self/cgroup': '5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/x',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': MiB,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': MiB / 4,
      'sys/fs/cgroup/memory/memory.stat': `total_inactive_file ${MiB / 8}`,
    });
    expect(availableMemory(root)).toBe(MiB - MiB / 8);
  });

  it('never exceeds the machine’s', () => {
    put({
      ...meminfo,
      'proc/self/cgroup': '4:memory:/',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
      'sys/fs/cgroup/memory/memory.usage_in_bytes': 1,
    });
    expect(availableMemory(root)).toBe(4 * MiB);
  });

  it('is positive here', () => {
    expect(availableMemory()).toBeGreaterThan(0);
  });
});

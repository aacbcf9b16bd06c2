/** How much memory a session may take, and the batch that fits it (issue item 7 of the first version; SPEC 3.1). */
import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { EnvironmentError } from '../errors.js';

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/** Value of `name` in the lines `name value` of a cgroup's memory.stat. */
function stat(text: string | null, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text ?? '')?.[1] ?? 0);
}

/** What one cgroup leaves; Infinity without a limit. Its page cache counts as free: the kernel drops it on demand. */
function cgroupFree(folder: string, limitFile: string, usageFile: string, cacheName: string): number {
  const limit = Number(read(join(folder, limitFile))?.trim());
  const usage = Number(read(join(folder, usageFile))?.trim());
  if (!(limit > 0) || !(usage >= 0)) return Number.POSITIVE_INFINITY; // "max", or no such file
  return Math.max(0, limit - usage + stat(read(join(folder, 'memory.stat')), cacheName));
}

/**
 * Bytes this process may still take: the machine's available memory, or less where a control group (version 1 or 2)
 * of this process or of an ancestor allows less.
 * @param root stands before every path; tests give a folder.
 */
export function availableMemory(root = '/'): number {
  const available = /^MemAvailable:\s+(\d+) kB/m.exec(read(join(root, 'proc/meminfo')) ?? '')?.[1];
  let bytes = available === undefined ? freemem() : Number(available) * 1024;
  for (const line of (read(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = line.split(':');
    if (path === undefined) continue;
    const unified = controllers === '';
    if (!unified && !controllers!.split(',').includes('memory')) continue;
    // In a container the path may be the host's: then only the mount's own root has files.
    for (let parts = path.split('/').filter(Boolean); ; parts = parts.slice(0, -1)) {
      const folder = join(root, 'sys/fs/cgroup', unified ? '' : 'memory', ...parts);
      const free = unified
        ? cgroupFree(folder, 'memory.max', 'memory.current', 'inactive_file')
        : cgroupFree(folder, 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file');
      bytes = Math.min(bytes, free);
      if (parts.length === 0) break;
    }
  }
  return bytes;
}

/**
 * The largest n in 1 … limit with bytesOf(n) <= budget; 0 when not even one image fits.
 * @param bytesOf memory of a session with batches of n, never falling with n (planMemory(…).total).
 */
export function largestFittingBatch(limit: number, budget: number, bytesOf: (n: number) => number): number {
  let fits = 0;
  let tooLarge = limit + 1;
  // The first guess settles the usual case.
  for (let n = limit; fits + 1 < tooLarge; n = Math.floor((fits + tooLarge) / 2)) {
    if (bytesOf(n) <= budget) fits = n;
    else tooLarge = n;
  }
  return fits;
}

export interface BatchPlan {
  /** One batch-norm group. */
  readonly batchSize: number;
  /** Groups of an optimiser step; batchSize × accumulate is the global batch. */
  readonly accumulate: number;
}

const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

/**
 * The batch to plan for. `given`: the user named the batch size, which is then taken or refused. Otherwise the
 * largest divisor of the global batch that fits, with `accumulate` raised so that the global batch stays.
 * @throws {EnvironmentError} naming the largest batch that fits, when a given one does not or none does.
 */
export function fitBatch(
  wanted: BatchPlan,
  given: boolean,
  budget: number,
  bytesOf: (n: number) => number,
): BatchPlan {
  const needed = bytesOf(wanted.batchSize);
  if (needed <= budget) return wanted;
  const largest = largestFittingBatch(wanted.batchSize - 1, budget, bytesOf);
  if (largest === 0) {
    throw new EnvironmentError(
      `--memory: expected at least ${gibibytes(bytesOf(1))}, which a batch of 1 needs, got ${gibibytes(budget)}. Take a smaller network, or a machine with more memory.`,
    );
  }
  if (given) {
    throw new EnvironmentError(
      `--batch-size ${wanted.batchSize} needs ${gibibytes(needed)}, but ${gibibytes(budget)} may be taken. The largest that fits is ${largest}: pass --batch-size ${largest}, or raise --memory.`,
    );
  }
  const global = wanted.batchSize * wanted.accumulate;
  let batchSize = largest;
  while (global % batchSize !== 0) batchSize--;
  return { batchSize, accumulate: global / batchSize };
}

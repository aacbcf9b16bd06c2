/**
 * "Did you mean …?" for every name a user can type: flags, config keys, architectures, policies, data sets. One
 * wording for all of them (STYLE §8).
 */
import { ConfigError } from './errors.js';

/** Case and separators never matter to a reader: `batch-size`, `batchSize` and `batch_size` are one name. */
const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9.]/g, '');

/** Edits (insert, delete, replace, swap neighbours) that turn `a` into `b`: restricted Damerau–Levenshtein. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/** The known name closest to `name`, or undefined when none is close enough to be what was meant. */
export function suggest(name: string, known: readonly string[]): string | undefined {
  const typed = plain(name);
  let best: string | undefined;
  // A third of the letters may be wrong, and always at least one.
  let allowed = Math.max(1, Math.floor(typed.length / 3));
  for (const candidate of known) {
    const distance = editDistance(typed, plain(candidate));
    if (distance <= allowed && (best === undefined || distance < allowed)) {
      best = candidate;
      allowed = distance;
    }
  }
  return best;
}

/** The error for an unknown name: `--ratio: unknown policy "srip". Known: uniform, er, … Did you mean "snip"?` */
export function unknownName(
  where: string,
  kind: string,
  name: string,
  known: readonly string[],
): ConfigError {
  const meant = suggest(name, known);
  return new ConfigError(
    `${where}: unknown ${kind} "${name}". Known: ${known.join(', ')}.${meant ? ` Did you mean "${meant}"?` : ''}`,
  );
}

/**
 * The addon's loader and the only file that imports it. Looks where builds leave it; a failed load says what each
 * attempt said, then which command to try.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NativeData } from '../data/native.js';
import { EnvironmentError } from '../errors.js';
import type { NativeKernels } from './kernels.js';
import type { NativeSessions } from './native-session.js';

/** Draws of Philox (native/bindings/random.cpp); src/random.ts documents them. */
export interface NativeRandom {
  words(out: Uint32Array, seed: number, purpose: number, epoch: number, index: number): void;
  philox(counter: Uint32Array, key: Uint32Array): Uint32Array;
  normalQuantile(p: number): number;
  fillNormal(
    out: Float32Array,
    mean: number,
    deviation: number,
    seed: number,
    purpose: number,
    epoch: number,
    index: number,
  ): void;
  fillUniform(
    out: Float32Array,
    low: number,
    high: number,
    seed: number,
    purpose: number,
    epoch: number,
    index: number,
  ): void;
  /** Returns the number of ones. */
  bernoulliMask(
    bits: Uint8Array,
    numel: number,
    density: number,
    seed: number,
    purpose: number,
    epoch: number,
    index: number,
  ): number;
  exactMask(
    bits: Uint8Array,
    numel: number,
    keep: number,
    seed: number,
    purpose: number,
    epoch: number,
    index: number,
  ): void;
  permutation(out: Uint32Array, seed: number, purpose: number, epoch: number, index: number): void;
}

export interface NativeAddon {
  readonly random: NativeRandom;
  readonly data: NativeData;
  readonly session: NativeSessions;
  readonly kernels: NativeKernels;
}

/** The package's own directory: the nearest one above this file with a CMakeLists.txt. */
export function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'CMakeLists.txt'))) {
    const parent = dirname(directory);
    if (parent === directory)
      throw new EnvironmentError('random-pruning: its own package directory is incomplete.');
    directory = parent;
  }
  return directory;
}

/**
 * Where an addon may lie, best first. `RP_ADDON` names the one to take. A build of this machine (`rp build`, a
 * checkout) comes before the prebuilt one: who built it meant it to be used.
 */
export function addonPaths(root: string = packageRoot()): string[] {
  const file = 'random_pruning.node';
  if (process.env.RP_ADDON) return [process.env.RP_ADDON];
  return [
    join(root, 'build', 'Release', file),
    join(root, 'prebuilds', `${process.platform}-${process.arch}`, file),
    join(root, 'build', 'dev', 'Release', file),
  ];
}

let loaded: { readonly addon: NativeAddon; readonly path: string } | undefined;

/**
 * The addon, loaded on first use.
 * @throws {EnvironmentError} when no attempt succeeds.
 */
export function native(): NativeAddon {
  loaded ??= loadAddon(addonPaths());
  return loaded.addon;
}

/** The file that `native()` loaded. */
export function nativePath(): string {
  native();
  return loaded!.path;
}

/** Loads the first of `paths` that loads. */
export function loadAddon(paths: readonly string[]): { addon: NativeAddon; path: string } {
  const require = createRequire(import.meta.url);
  const attempts: string[] = [];
  for (const path of paths) {
    try {
      return { addon: require(path) as NativeAddon, path };
    } catch (error) {
      attempts.push(`  ${path}: ${existsSync(path) ? (error as Error).message : 'no such file'}`);
    }
  }
  throw new EnvironmentError(
    `The native engine could not be loaded. Tried:\n${attempts.join('\n')}\n` +
      'Run `rp build` (in a checkout: `npm run build:native`); `rp doctor` says what is missing.',
  );
}

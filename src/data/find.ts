/** Where a data set's files lie: the data directory, its usual sub-folders, the system's folder. */
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { EnvironmentError } from '../errors.js';
import { type CifarSpec, type IdxSpec, type NaturalName, naturalSpecs } from './specs.js';

/** Where data sets lie when nobody says: `RP_DATA`, else `data` in the working directory. */
export function defaultDataDir(): string {
  return process.env.RP_DATA || 'data';
}

/** Absolute paths of a data set's files. */
export interface FoundFiles {
  readonly folder: string;
  /** CIFAR: any number of batches in order. IDX: images, labels. */
  readonly train: readonly string[];
  readonly test: readonly string[];
}

/** Folders that are searched, in order. */
export function searchedFolders(name: NaturalName, dataDir: string): string[] {
  const spec: CifarSpec | IdxSpec = naturalSpecs[name];
  const folders = [dataDir, ...spec.folders.map((folder) => join(dataDir, folder))];
  return spec.format === 'idx' ? [...folders, spec.systemFolder] : folders;
}

/**
 * The first folder that has the data set, or null. Throws EnvironmentError where a folder has some of its files only,
 * so that half a data set is never passed over in silence.
 */
export async function findFiles(name: NaturalName, dataDir: string): Promise<FoundFiles | null> {
  const spec = naturalSpecs[name];
  for (const folder of searchedFolders(name, dataDir)) {
    const found = spec.format === 'cifar' ? await findCifar(spec, folder) : await findIdx(spec, folder);
    if (found) return found;
  }
  return null;
}

async function findCifar(spec: CifarSpec, folder: string): Promise<FoundFiles | null> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const order = (name: string) => Number(spec.trainFiles.exec(name)?.[1] ?? 0);
  const train = names.filter((name) => spec.trainFiles.test(name)).sort((a, b) => order(a) - order(b));
  const test = names.includes(spec.testFile);
  if (train.length === 0 && !test) return null;
  if (train.length === 0 || !test) {
    throw new EnvironmentError(
      `${folder}: expected ${spec.trainExample} and ${spec.testFile} of ${spec.title}, got only ` +
        `${[...train, ...(test ? [spec.testFile] : [])].join(', ')}.`,
    );
  }
  return { folder, train: train.map((name) => join(folder, name)), test: [join(folder, spec.testFile)] };
}

async function findIdx(spec: IdxSpec, folder: string): Promise<FoundFiles | null> {
  const wanted = [...spec.files.train, ...spec.files.test];
  const paths = await Promise.all(wanted.map((name) => plainOrGzip(join(folder, name))));
  const found = paths.filter((path) => path !== null);
  if (found.length === 0) return null;
  if (found.length < wanted.length) {
    const missing = wanted.filter((_, i) => paths[i] === null);
    throw new EnvironmentError(
      `${folder}: expected ${wanted.join(', ')} (plain or .gz) of ${spec.title}; missing: ${missing.join(', ')}.`,
    );
  }
  return { folder, train: found.slice(0, 2), test: found.slice(2) };
}

async function plainOrGzip(path: string): Promise<string | null> {
  for (const candidate of [path, `${path}.gz`]) {
    if (
      await access(candidate).then(
        () => true,
        () => false,
      )
    ) {
      return candidate;
    }
  }
  return null;
}

/**
 * Densities from a file: JSON (`{"conv.weight": 0.5, …}`, `[{"name", "density"}, …]`, or what `rp sparsity --json`
 * prints) or CSV with a header that has `name` (or `layer`) and `density`, as a run's sparsity.csv.
 */
import { UsageError } from '../errors.js';
import { suggest } from '../suggest.js';
import { type FilePolicy, totalOf } from './policy.js';

/** Files round their figures: the whole may differ from the density asked for by this much. */
const TOLERANCE = 5e-4;

export const file: FilePolicy = {
  name: 'file',
  description: 'file:PATH, layer-wise densities as JSON or CSV',
  needs: 'file',
  breaks: { budget: 'the file sets it', monotone: 'the file sets the densities' },
  densities: (layers, density, { densityFile }) => {
    if (densityFile === undefined)
      throw new UsageError('--ratio file:PATH: the text of the file is missing.');
    const given = parse(densityFile);
    const known = layers.map(({ name }) => name);
    for (const name of given.keys()) {
      if (!known.includes(name)) {
        const meant = suggest(name, known);
        throw new UsageError(
          `--ratio file: this network has no prunable layer "${name}".${meant ? ` Did you mean "${meant}"?` : ` It has ${known.join(', ')}.`}`,
        );
      }
    }
    const densities = known.map((name) => {
      const value = given.get(name);
      if (value === undefined)
        throw new UsageError(`--ratio file: no density for ${name}. Every prunable layer needs one.`);
      return value;
    });
    const kept = layers.reduce((sum, { numel }, l) => sum + densities[l]! * numel, 0) / totalOf(layers);
    if (density < 1 && Math.abs(kept - density) > TOLERANCE) {
      throw new UsageError(
        `--ratio file: the file keeps ${kept.toFixed(4)} of the weights, but ${density} was asked for. Leave out --sparsity and --density.`,
      );
    }
    return densities;
  },
};

function parse(text: string): Map<string, number> {
  return /^\s*[[{]/.test(text) ? parseJson(text) : parseCsv(text);
}

function add(densities: Map<string, number>, name: unknown, density: unknown, where: string): void {
  if (typeof name !== 'string' || typeof density !== 'number' || !(density >= 0 && density <= 1)) {
    throw new UsageError(
      `--ratio file: ${where}: expected a layer's name and a density in [0, 1], got ${JSON.stringify(name)} and ${JSON.stringify(density)}.`,
    );
  }
  if (densities.has(name)) throw new UsageError(`--ratio file: ${where}: ${name} stands there twice.`);
  densities.set(name, density);
}

function parseJson(text: string): Map<string, number> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`--ratio file: not JSON: ${(error as Error).message}.`);
  }
  const densities = new Map<string, number>();
  const layers = Array.isArray(parsed) ? parsed : (parsed as { layers?: unknown }).layers;
  if (Array.isArray(layers)) {
    for (const [index, layer] of layers.entries()) {
      const { name, density } = (layer ?? {}) as { name?: unknown; density?: unknown };
      add(densities, name, density, `layer ${index}`);
    }
  } else {
    for (const [name, density] of Object.entries(parsed as object))
      add(densities, name, density, `"${name}"`);
  }
  return densities;
}

/** Fields of a line; quoted ones may hold commas. */
const fieldsOf = (line: string) =>
  [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, bare]) =>
    quoted === undefined ? bare!.trim() : quoted.replaceAll('""', '"'),
  );

function parseCsv(text: string): Map<string, number> {
  const [header = '', ...lines] = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const columns = fieldsOf(header).map((column) => column.toLowerCase());
  const nameColumn = columns.findIndex((column) => column === 'name' || column === 'layer');
  const densityColumn = columns.indexOf('density');
  if (nameColumn < 0 || densityColumn < 0) {
    throw new UsageError(
      `--ratio file: expected a CSV header with "name" (or "layer") and "density", got "${header.slice(0, 80)}".`,
    );
  }
  const densities = new Map<string, number>();
  for (const [index, line] of lines.entries()) {
    const fields = fieldsOf(line);
    const density = fields[densityColumn];
    add(densities, fields[nameColumn], density ? Number(density) : density, `line ${index + 2}`);
  }
  return densities;
}

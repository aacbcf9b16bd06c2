/**
 * Searches for kernels' tiles, kept per machine: `tiles-<instruction set>-<processor>.json` under RP_CACHE_DIR, else
 * XDG_CACHE_HOME/random-pruning, else ~/.cache/random-pruning. A search takes seconds and its outcome depends on the
 * processor alone, so that each layer of each density is searched once (docs/decisions/0062-tiles-are-searched-once.md).
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { createSession } from './create-session.js';
import { native } from './native.js';
import type { Session, SessionOptions } from './session.js';

const SCHEMA = 1;

const tileSchema = z.object({ choice: z.string().min(1), figures: z.string() });
const fileSchema = z.object({
  schema: z.literal(SCHEMA),
  cpu: z.string(),
  isa: z.string(),
  tiles: z.record(z.string(), tileSchema),
});

/** What a search found for one key: the choice, and what it measured. */
export type Tile = z.output<typeof tileSchema>;
export type Tiles = Readonly<Record<string, Tile>>;

/** once: each layer is searched once a machine; again: afresh, replacing what was kept; off: by the cost model. */
export type Tune = 'once' | 'again' | 'off';

const cpuModel = () => os.cpus()[0]?.model.trim() || 'unknown processor';

const slug = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');

function cacheDirectory(): string {
  const { RP_CACHE_DIR, XDG_CACHE_HOME } = process.env;
  if (RP_CACHE_DIR) return RP_CACHE_DIR;
  return path.join(XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'random-pruning');
}

/** The file of this machine's instruction set and processor. */
export function tileCacheFile(isa = native().session.cpu().isa): string {
  return path.join(cacheDirectory(), `tiles-${isa}-${slug(cpuModel())}.json`);
}

/** What the file holds; a damaged or foreign one holds nothing, and says why. */
export function readTiles(file: string): { tiles: Tiles; notice: string | null } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { tiles: {}, notice: code === 'ENOENT' ? null : `${file}: ${message}; tiles are searched again.` };
  }
  try {
    return { tiles: fileSchema.parse(JSON.parse(text)).tiles, notice: null };
  } catch {
    return { tiles: {}, notice: `${file}: not a file of tiles; they are searched again.` };
  }
}

/**
 * Adds to the file, whole or not at all. What another process put there meanwhile stays, unless `replace`.
 * @returns why nothing was kept, or null
 */
export function saveTiles(file: string, found: Tiles, { replace = false } = {}): string | null {
  const { tiles } = readTiles(file);
  const merged = replace ? { ...tiles, ...found } : { ...found, ...tiles };
  const isa = path.basename(file).split('-')[1]!;
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    const content = { schema: SCHEMA, cpu: cpuModel(), isa, tiles: merged };
    writeFileSync(temporary, `${JSON.stringify(content, null, 1)}\n`);
    renameSync(temporary, file);
    return null;
  } catch (error) {
    return `${file}: ${(error as Error).message}; the tiles found are not kept.`;
  }
}

/** SessionOptions.tiles. */
export const tilesText = (tiles: Tiles): string =>
  Object.entries(tiles)
    .map(([key, { choice }]) => `${key}\t${choice}\n`)
    .join('');

/** A layer of a session's plan. */
export interface PlannedLayer {
  /** Of the weight. */
  readonly name: string;
  readonly kernel?: string;
  /** Tiles, a pass each. */
  readonly choice?: string;
  /** What a search is kept under; absent where none was made. */
  readonly key?: string;
  /** What it measured; absent where it was not measured now. */
  readonly figures?: string;
}

export const plannedLayers = (plan: string): readonly PlannedLayer[] =>
  (JSON.parse(plan) as { layers?: readonly PlannedLayer[] }).layers ?? [];

/** What a plan's searches found. */
export function tilesOf(plan: string): Tiles {
  return Object.fromEntries(
    plannedLayers(plan).flatMap(({ key, choice, figures }) =>
      key && choice && figures ? [[key, { choice, figures }]] : [],
    ),
  );
}

/** Puts the kept figures beside the choices that were taken from the cache, for whoever reads the plan. */
function withFigures(plan: string, tiles: Tiles): string {
  const whole = JSON.parse(plan) as { layers?: readonly PlannedLayer[] };
  const layers = whole.layers?.map((layer) => {
    const kept = layer.key && !layer.figures ? tiles[layer.key] : undefined;
    return kept && kept.choice === layer.choice ? { ...layer, figures: kept.figures } : layer;
  });
  return `${JSON.stringify({ ...whole, layers }, null, 1)}\n`;
}

/**
 * A session whose convolutions have searched tiles; like createSession where `tune` is off, a plan is replayed, or the
 * engine has none. `plan` is the session's, with every figure known.
 */
export async function createTunedSession(
  options: SessionOptions,
  { tune, onNotice }: { tune: Tune; onNotice?: ((message: string) => void) | undefined },
): Promise<{ session: Session; plan: string }> {
  if (tune === 'off' || options.engine !== 'cpu' || options.plan !== undefined) {
    const session = await createSession(options);
    return { session, plan: session.plan };
  }
  const file = tileCacheFile();
  const { tiles, notice } = readTiles(file);
  if (notice) onNotice?.(notice);
  const known = tune === 'again' ? {} : tiles;
  const start = performance.now();
  const session = await createSession({ ...options, measure: true, tiles: tilesText(known) });
  const found = tilesOf(session.plan);
  const count = Object.keys(found).length;
  if (count > 0) {
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const unsaved = saveTiles(file, found, { replace: tune === 'again' });
    onNotice?.(
      unsaved ??
        `tiles of ${count} convolutions measured in ${seconds} s, kept in ${file} (--tune again repeats it)`,
    );
  }
  return { session, plan: withFigures(session.plan, known) };
}

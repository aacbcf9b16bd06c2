/**
 * Searches for kernels' tiles, kept per machine: `tiles-<instruction set>-<processor>.json` under RP_CACHE_DIR, else
 * XDG_CACHE_HOME/random-pruning, else ~/.cache/random-pruning. A search takes seconds and its outcome depends on the
 * processor alone, so that each layer of each density is searched once (docs/decisions/0062-tiles-are-searched-once.md).
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { slug } from '../units.js';
import { countSearches, createSession } from './create-session.js';
import { native } from './native.js';
import { processorName } from './processor.js';
import type { Session, SessionOptions } from './session.js';

// Raised where the format changes, or kernels so much that other tiles win.
const SCHEMA = 14;

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

/** A container's user may have no home at all, for which os.homedir() throws. */
function homeDirectory(): string {
  try {
    return os.homedir();
  } catch {
    return os.tmpdir();
  }
}

function cacheDirectory(): string {
  const { RP_CACHE_DIR, XDG_CACHE_HOME } = process.env;
  if (RP_CACHE_DIR) return RP_CACHE_DIR;
  return path.join(XDG_CACHE_HOME || path.join(homeDirectory(), '.cache'), 'random-pruning');
}

/** The file of this machine's instruction set and processor. */
export function tileCacheFile(isa = native().session.cpu().isa): string {
  return path.join(cacheDirectory(), `tiles-${isa}-${slug(processorName())}.json`);
}

const isaOf = (file: string) => path.basename(file).split('-')[1]!;

/** What the file holds; a damaged one, or one of another machine, holds nothing, and says why. */
export function readTiles(file: string): { tiles: Tiles; notice: string | null } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { tiles: {}, notice: code === 'ENOENT' ? null : `${file}: ${message}; tiles are searched again.` };
  }
  try {
    const { cpu, isa, tiles } = fileSchema.parse(JSON.parse(text));
    if (cpu === processorName() && isa === isaOf(file)) return { tiles, notice: null };
    const notice = `${file}: its tiles are of ${cpu} (${isa}), another processor; they are searched again.`;
    return { tiles: {}, notice };
  } catch {
    return { tiles: {}, notice: `${file}: not a file of tiles; they are searched again.` };
  }
}

/**
 * Adds to the file, whole or not at all. What stands there stays, since runs were made with it, unless `replace` or it
 * is still what was `known` before the search: the engine takes that no more, else it had not searched.
 * @returns why nothing was kept, or null
 */
export function saveTiles(
  file: string,
  found: Tiles,
  { replace = false, known = {} }: { readonly replace?: boolean; readonly known?: Tiles } = {},
): string | null {
  const stays = ([key, { choice }]: [string, Tile]) =>
    !(key in found) || (!replace && choice !== known[key]?.choice);
  const there = Object.entries(readTiles(file).tiles).filter(stays);
  const tiles = { ...found, ...Object.fromEntries(there) };
  // Writers may share a process, and a directory with other machines.
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    const content = { schema: SCHEMA, cpu: processorName(), isa: isaOf(file), tiles };
    writeFileSync(temporary, `${JSON.stringify(content, null, 1)}\n`);
    renameSync(temporary, file);
    return null;
  } catch (error) {
    try {
      rmSync(temporary, { force: true });
    } catch {
      // Where nothing can be written, nothing was.
    }
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

interface PlanFile {
  readonly engine?: string;
  readonly isa?: string;
  readonly layers?: readonly PlannedLayer[];
}

const parsed = (plan: string) => JSON.parse(plan) as PlanFile;

export const plannedLayers = (plan: string): readonly PlannedLayer[] => parsed(plan).layers ?? [];

/** What a plan's searches found. */
export function tilesOf(plan: string): Tiles {
  return Object.fromEntries(
    plannedLayers(plan).flatMap(({ key, choice, figures }) =>
      key && choice && figures ? [[key, { choice, figures }]] : [],
    ),
  );
}

type Searched = Pick<PlannedLayer, 'choice' | 'key' | 'figures'>;

/** The plan with what is known of its choices beside them, for whoever reads it. */
function withFigures(plan: string, known: (layer: PlannedLayer) => Searched | undefined): string {
  const whole = parsed(plan);
  const layers = whole.layers?.map((layer) => {
    const { choice, key, figures } = known(layer) ?? {};
    if (!figures || layer.figures || choice !== layer.choice) return layer;
    return { ...layer, ...(key && { key }), figures };
  });
  return `${JSON.stringify({ ...whole, layers }, null, 1)}\n`;
}

/** The plan of a session that replays another: an engine replays the choices, and leaves what was measured aside. */
function replayOf(plan: string, replayed: string): string {
  const { engine, isa } = parsed(plan);
  let from: PlanFile;
  try {
    from = parsed(replayed);
  } catch {
    return plan; // Engines are lenient: `reference` replays any text.
  }
  // Choices of equal text are other code on another instruction set.
  if (engine !== 'cpu' || from?.engine !== engine || from.isa !== isa) return plan;
  const layers = new Map(from.layers?.map((layer) => [layer.name, layer]));
  return withFigures(plan, ({ name }) => layers.get(name));
}

const convolutions = (count: number) => `${count} convolution${count === 1 ? '' : 's'}`;

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
    const { plan } = session;
    return { session, plan: options.plan === undefined ? plan : replayOf(plan, options.plan) };
  }
  const file = tileCacheFile();
  const { tiles, notice } = readTiles(file);
  if (notice) onNotice?.(notice);
  const known = tune === 'again' ? {} : tiles;
  const measuring = { ...options, measure: true, tiles: tilesText(known) };
  const searches = countSearches(measuring);
  if (searches > 0) {
    onNotice?.(`measuring tiles of ${convolutions(searches)}, some seconds each, once on this machine`);
  }
  const start = performance.now();
  const session = await createSession(measuring);
  const found = tilesOf(session.plan);
  const count = Object.keys(found).length;
  if (count > 0) {
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const unsaved = saveTiles(file, found, { replace: tune === 'again', known });
    const measured = `tiles of ${convolutions(count)} measured in ${seconds} s`;
    onNotice?.(`${measured}, ${unsaved ? 'not kept' : `kept in ${file} (--tune again repeats it)`}`);
    if (unsaved) onNotice?.(unsaved);
  }
  return { session, plan: withFigures(session.plan, ({ key }) => (key ? known[key] : undefined)) };
}

import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createSession } from '../../src/engine/create-session.js';
import {
  createTunedSession,
  readTiles,
  saveTiles,
  tileCacheFile,
  tilesOf,
  tilesText,
} from '../../src/engine/tile-cache.js';
import { sampleMasks } from '../../src/masks/index.js';
import { TINY_BATCH, tinyGraph } from '../helpers/tiny-session.js';

let directory: string;
let file: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(tmpdir(), 'rp-cache-'));
  file = path.join(directory, 'deep', 'tiles-avx512-some-cpu.json');
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

const tile = (choice: string) => ({ choice, figures: 'forward 9 GFLOP/s' });

describe('the file of tiles', () => {
  it('is empty where there is none, and says nothing', () => {
    expect(readTiles(file)).toEqual({ tiles: {}, notice: null });
  });

  it('gives back what was saved, and leaves no other file behind', () => {
    expect(saveTiles(file, { a: tile('forward=1x8/3') })).toBeNull();
    expect(readTiles(file)).toEqual({ tiles: { a: tile('forward=1x8/3') }, notice: null });
    expect(fs.readdirSync(path.dirname(file))).toEqual([path.basename(file)]);
  });

  it.each([
    ['damaged', '{"schema": 1, "tiles": {'],
    ['of another version', '{"schema": 99, "cpu": "x", "isa": "avx512", "tiles": {}}'],
    ['of other content', '[1, 2]'],
  ])('holds nothing when %s, says so, and is replaced', (_, content) => {
    fs.mkdirSync(path.dirname(file));
    fs.writeFileSync(file, content);
    const { tiles, notice } = readTiles(file);
    expect(tiles).toEqual({});
    expect(notice).toContain(file);
    expect(saveTiles(file, { a: tile('forward=1x8/3') })).toBeNull();
    expect(readTiles(file).tiles).toEqual({ a: tile('forward=1x8/3') });
  });

  it('keeps what another process put there, unless it is searched again', () => {
    saveTiles(file, { a: tile('first'), b: tile('b') });
    saveTiles(file, { a: tile('second'), c: tile('c') });
    expect(readTiles(file).tiles).toEqual({ a: tile('first'), b: tile('b'), c: tile('c') });
    saveTiles(file, { a: tile('third') }, { replace: true });
    expect(readTiles(file).tiles).toEqual({ a: tile('third'), b: tile('b'), c: tile('c') });
  });

  it('is not needed: where it cannot be written, a sentence says so', () => {
    fs.writeFileSync(path.join(directory, 'deep'), 'a file where the directory should be');
    expect(saveTiles(file, { a: tile('x') })).toContain('not kept');
  });

  it('lies under RP_CACHE_DIR, one an instruction set', () => {
    expect(path.dirname(tileCacheFile('avx2'))).toBe(process.env.RP_CACHE_DIR);
    expect(path.basename(tileCacheFile('avx2'))).toMatch(/^tiles-avx2-[a-z0-9-]+\.json$/);
  });
});

describe('a tuned session', () => {
  const graph = tinyGraph();
  const masks = sampleMasks({ graph, densities: [0.5, 0.5], sampler: 'exact', seed: 1 });
  const options = { graph, masks, engine: 'cpu', batchSize: TINY_BATCH, threads: 2 } as const;
  const choices = (plan: string) =>
    (JSON.parse(plan) as { layers: { choice: string }[] }).layers.map(({ choice }) => choice);

  it('searches each layer once a machine, whatever the threads, and replays the choice', async () => {
    process.env.RP_CACHE_DIR = directory;
    try {
      const said: string[] = [];
      const onNotice = (message: string) => said.push(message);
      const first = await createTunedSession(options, { tune: 'once', onNotice });
      await first.session.dispose();
      expect(said).toHaveLength(1);
      expect(said[0]).toMatch(/^tiles of \d+ convolutions measured in [\d.]+ s, kept in /);
      const { tiles } = readTiles(tileCacheFile());
      expect(Object.keys(tiles)).toEqual(Object.keys(tilesOf(first.plan)));
      const second = await createTunedSession({ ...options, threads: 1 }, { tune: 'once', onNotice });
      await second.session.dispose();
      expect(said).toHaveLength(1);
      expect(choices(second.plan)).toEqual(choices(first.plan));
      expect(JSON.parse(second.plan)).toEqual(JSON.parse(first.plan)); // with the figures that were kept
    } finally {
      process.env.RP_CACHE_DIR = process.env.RP_TEST_CACHE;
    }
  });

  it('searches afresh where a kept choice names a tile that is no more', async () => {
    const known = await createSession({ ...options, measure: true });
    const wrong = Object.fromEntries(
      Object.keys(tilesOf(known.plan)).map((key) => [key, tile('forward=9x9/4 dgrad=9x9/4 wgrad=9x9/4')]),
    );
    await known.dispose();
    const session = await createSession({ ...options, measure: true, tiles: tilesText(wrong) });
    expect(Object.keys(tilesOf(session.plan))).toEqual(Object.keys(wrong));
    expect(choices(session.plan).join()).not.toContain('9x9');
    await session.dispose();
  });

  it('measures nothing where it is off', async () => {
    const { session, plan } = await createTunedSession(options, { tune: 'off' });
    expect(tilesOf(plan)).toEqual({});
    await session.dispose();
  });

  it('refuses lines that are none', async () => {
    await expect(createSession({ ...options, measure: true, tiles: 'no tab' })).rejects.toThrow(/\[tiles\]/);
  });
});

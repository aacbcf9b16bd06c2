import * as fs from 'node:fs';
import os, { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createSession } from '../../src/engine/create-session.js';
import { processorName } from '../../src/engine/processor.js';
import type { SessionOptions } from '../../src/engine/session.js';
import {
  createTunedSession,
  plannedLayers,
  readTiles,
  saveTiles,
  type Tune,
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
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  fs.rmSync(directory, { recursive: true });
});

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
    ['damaged', '{"schema": 3, "tiles": {'],
    ['of another version', '{"schema": 99, "cpu": "x", "isa": "avx512", "tiles": {}}'],
    ['of other content', '[1, 2]'],
    ['empty', ''],
    ['of another processor', '{"schema": 3, "cpu": "Z80", "isa": "avx512", "tiles": {}}'],
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

  it('replaces what was known and had to be searched all the same, unless another process did', () => {
    const known = { a: tile('refused'), b: tile('refused') };
    saveTiles(file, { ...known, b: tile('by another process'), c: tile('c') });
    saveTiles(file, { a: tile('a'), b: tile('b') }, { known });
    expect(readTiles(file).tiles).toEqual({ a: tile('a'), b: tile('by another process'), c: tile('c') });
  });

  it('is of this instruction set: a copy under another name holds nothing', () => {
    saveTiles(file, { a: tile('forward=1x8/3') });
    const copy = file.replace('avx512', 'avx2');
    fs.copyFileSync(file, copy);
    expect(readTiles(copy)).toEqual({ tiles: {}, notice: expect.stringContaining('(avx512), another') });
  });

  it('is not needed: where it cannot be written, a sentence says so', () => {
    fs.writeFileSync(path.join(directory, 'deep'), 'a file where the directory should be');
    expect(saveTiles(file, { a: tile('x') })).toContain('not kept');
  });

  it('leaves nothing behind where it cannot be put into place', () => {
    fs.mkdirSync(path.join(file, 'in the way'), { recursive: true });
    expect(saveTiles(file, { a: tile('x') })).toContain('not kept');
    expect(fs.readdirSync(path.dirname(file))).toEqual([path.basename(file)]);
  });

  it('lies under RP_CACHE_DIR, one an instruction set', () => {
    expect(path.dirname(tileCacheFile('avx2'))).toBe(process.env.RP_CACHE_DIR);
    expect(path.basename(tileCacheFile('avx2'))).toMatch(/^tiles-avx2-[a-z0-9-]+\.json$/);
  });

  it('tells processors of one name apart where Linux says which they are', () => {
    const cpuinfo = 'cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n';
    expect(processorName(cpuinfo)).toBe(`${processorName('')} (family 26, model 2)`);
  });

  it("lies in the user's cache else, and where there is no home, with what is temporary", () => {
    vi.stubEnv('RP_CACHE_DIR', '');
    vi.stubEnv('XDG_CACHE_HOME', directory);
    expect(path.dirname(tileCacheFile())).toBe(path.join(directory, 'random-pruning'));
    vi.stubEnv('XDG_CACHE_HOME', '');
    vi.stubEnv('HOME', '/home/someone');
    expect(path.dirname(tileCacheFile())).toBe('/home/someone/.cache/random-pruning');
    vi.spyOn(os, 'homedir').mockImplementation(() => {
      throw new Error('uv_os_homedir returned ENOENT');
    });
    expect(path.dirname(tileCacheFile())).toBe(path.join(tmpdir(), '.cache', 'random-pruning'));
  });
});

describe('a tuned session', () => {
  const graph = tinyGraph();
  const masks = sampleMasks({ graph, densities: [0.5, 0.5], sampler: 'exact', seed: 1 });
  const options = { graph, masks, engine: 'cpu', batchSize: TINY_BATCH, threads: 2 } as const;
  const choices = (plan: string) =>
    (JSON.parse(plan) as { layers: { choice: string }[] }).layers.map(({ choice }) => choice);

  /** Makes one, and gives its plan with what was said. */
  async function tuned(tune: Tune, more: Partial<SessionOptions> = {}) {
    const said: string[] = [];
    const onNotice = (message: string) => said.push(message);
    const { session, plan } = await createTunedSession({ ...options, ...more }, { tune, onNotice });
    await session.dispose();
    return { plan, said };
  }
  const measuring = /^measuring tiles of \d+ convolutions?, /;
  const measured = /^tiles of \d+ convolutions? measured in [\d.]+ s, /;
  beforeEach(() => vi.stubEnv('RP_CACHE_DIR', directory));

  it('searches each layer once a machine, whatever the threads, and replays the choice', async () => {
    const first = await tuned('once');
    expect(first.said).toEqual([expect.stringMatching(measuring), expect.stringMatching(measured)]);
    expect(first.said[1]).toContain(`kept in ${tileCacheFile()}`);
    expect(readTiles(tileCacheFile()).tiles).toEqual(tilesOf(first.plan));
    const second = await tuned('once', { threads: 1 });
    expect(second.said).toEqual([]);
    expect(second.plan).toBe(first.plan); // with the figures that were kept
  });

  it('searches again where it is told to, and keeps that', async () => {
    const first = await tuned('once');
    saveTiles(tileCacheFile(), { other: tile('x') });
    const again = await tuned('again');
    expect(again.said).toEqual([expect.stringMatching(measuring), expect.stringMatching(measured)]);
    expect(readTiles(tileCacheFile()).tiles).toEqual({ ...tilesOf(again.plan), other: tile('x') });
    expect(Object.keys(tilesOf(again.plan))).toEqual(Object.keys(tilesOf(first.plan)));
  });

  it('takes what is kept over what it would find: that alone makes runs repeat', async () => {
    const { plan } = await tuned('off');
    const [layer] = plannedLayers((await tuned('again')).plan);
    const byModel = { choice: plannedLayers(plan)[0]!.choice!, figures: 'forward 1 GFLOP/s' };
    saveTiles(tileCacheFile(), { [layer!.key!]: byModel }, { replace: true });
    const again = await tuned('once');
    expect(again.said).toEqual([]);
    expect(plannedLayers(again.plan)[0]).toMatchObject({ ...byModel, key: layer!.key });
  });

  it('replaces a kept choice that the engine takes no more, once', async () => {
    const { plan } = await tuned('once');
    const file = tileCacheFile();
    const [key] = Object.keys(tilesOf(plan));
    saveTiles(file, { [key!]: tile('forward=9x9/4 dgrad=9x9/4 wgrad=9x9/4') }, { replace: true });
    const replaced = await tuned('once');
    expect(replaced.said[0]).toMatch(/^measuring tiles of 1 convolution,/);
    expect(replaced.said[1]).toMatch(/^tiles of 1 convolution measured/);
    expect(readTiles(file).tiles[key!]!.choice).not.toContain('9x9');
    expect((await tuned('once')).said).toEqual([]);
  });

  it('goes without a file where none can be read or written, and says so', async () => {
    const blocked = path.join(directory, 'a file');
    fs.writeFileSync(blocked, '');
    vi.stubEnv('RP_CACHE_DIR', blocked);
    const { plan, said } = await tuned('once');
    expect(Object.keys(tilesOf(plan))).not.toEqual([]);
    expect(said).toHaveLength(4);
    expect(said[0]).toContain('ENOTDIR');
    expect(said[1]).toMatch(measuring);
    expect(said[2]).toMatch(/measured in .* s, not kept$/);
    expect(said[3]).toMatch(/the tiles found are not kept/);
  });

  it('is not made when the signal ends its search, and keeps nothing', async () => {
    const controller = new AbortController();
    setImmediate(() => controller.abort(new Error('enough')));
    await expect(tuned('once', { signal: controller.signal })).rejects.toThrow('enough');
    expect(fs.existsSync(tileCacheFile())).toBe(false);
  });

  it('replays a plan without a search, what was measured for it included', async () => {
    const { plan } = await tuned('once');
    vi.stubEnv('RP_CACHE_DIR', path.join(directory, 'other'));
    const replay = await tuned('again', { plan });
    expect(replay).toEqual({ plan, said: [] });
    expect(fs.existsSync(path.join(directory, 'other'))).toBe(false);
  });

  it('puts no figures beside choices that are not those of the plan', async () => {
    const whole = JSON.parse((await tuned('once')).plan);
    const foreign = await tuned('off', { plan: JSON.stringify({ ...whole, isa: 'another' }) });
    expect(tilesOf(foreign.plan)).toEqual({}); // the engine leaves such a plan aside, and goes by its model
    const empty = await tuned('off', { plan: '' });
    expect(tilesOf(empty.plan)).toEqual({});
  });

  it('searches nothing for the reference engine, and replays any text there', async () => {
    const { said, plan } = await tuned('once', { engine: 'reference', plan: 'any text' });
    expect(said).toEqual([]);
    expect(plannedLayers(plan).length).toBeGreaterThan(0);
    expect((await tuned('once', { engine: 'reference' })).plan).toBe(plan);
    expect(fs.readdirSync(directory)).toEqual([]);
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
    const { plan, said } = await tuned('off');
    expect(tilesOf(plan)).toEqual({});
    expect(said).toEqual([]);
    expect(fs.readdirSync(directory)).toEqual([]);
  });

  it('tells a layer that keeps nothing from a dense one', async () => {
    const empty = sampleMasks({ graph, densities: [0, 0], sampler: 'exact', seed: 1 });
    const session = await createSession({ ...options, masks: empty, measure: true });
    const { layers } = JSON.parse(session.plan) as { layers: { key: string }[] };
    await session.dispose();
    expect(layers).toHaveLength(2);
    for (const { key } of layers) expect(key).toContain('; nothing kept;');
  });

  it('refuses lines that are none', async () => {
    await expect(createSession({ ...options, measure: true, tiles: 'no tab' })).rejects.toThrow(/\[tiles\]/);
  });
});

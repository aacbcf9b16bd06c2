/** Searches for tiles in whole runs: what is kept, what repeats, and who never searches. */
import fs from 'node:fs';
import path from 'node:path';
import {
  type ExperimentEvent,
  type ExperimentOptions,
  evaluateCheckpoint,
  experimentConfig,
  loadCheckpoint,
  resumeExperiment,
  runExperiment,
} from 'random-pruning';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { plannedLayers, readTiles, tileCacheFile, tilesOf } from '../../src/engine/tile-cache.js';
import { compileSources, startNode } from '../helpers/compiled.js';
import { tinyData, tinyOptions } from '../helpers/experiments.js';
import { temporaryDirectory } from '../helpers/temporary.js';

const root = temporaryDirectory('tiles');
const dataset = tinyData();
let cache: string;
beforeEach(() => {
  cache = fs.mkdtempSync(path.join(root, 'cache-'));
  vi.stubEnv('RP_CACHE_DIR', cache);
});
afterEach(() => vi.unstubAllEnvs());

let runs = 0;
/** A run on the cpu engine, with what it said and the files it left. */
async function run(options: ExperimentOptions, signal?: AbortSignal) {
  const outputDir = path.join(root, `run-${runs++}`);
  const said: string[] = [];
  const onEvent = (event: ExperimentEvent) => event.type === 'notice' && said.push(event.message);
  const config = experimentConfig({ ...tinyOptions, device: 'cpu', epochs: 1, outputDir, ...options });
  const result = await runExperiment(config, { dataset, onEvent, signal });
  const text = (name: string) => fs.readFileSync(path.join(outputDir, name), 'utf8');
  const [, ...rows] = text('sparsity.csv')
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','));
  return { result, said, plan: text('plan.json'), rows, file: (name: string) => path.join(outputDir, name) };
}

const searched = /^tiles of \d+ convolutions? measured in \d+\.\d s, kept in /;
const passes = /^(dense )?forward=\S+( dgrad=\S+)? wgrad=\S+$/;
const figures = /^forward [\d.]+( backward [\d.]+|( dgrad [\d.]+)? wgrad [\d.]+) GFLOP\/s$/;

describe('a run', () => {
  it('searches once a machine, keeps and reports what it found, and repeats bit for bit', async () => {
    const first = await run({ tune: 'once' });
    expect(first.said).toContainEqual(expect.stringMatching(searched));
    const { tiles } = readTiles(tileCacheFile());
    expect(Object.keys(tiles)).not.toEqual([]);
    expect(tilesOf(first.plan)).toEqual(tiles);
    const layers = new Map(plannedLayers(first.plan).map((layer) => [layer.name, layer]));
    for (const row of first.rows) {
      expect(row).toHaveLength(9);
      const layer = layers.get(row[0]!)!;
      expect(row.slice(6)).toEqual([layer.kernel, layer.choice, layer.figures]);
      expect(row[7]).toMatch(passes);
      expect(row[8]).toMatch(figures);
    }

    const second = await run({ tune: 'once', threads: 2 });
    expect(second.said).not.toContainEqual(expect.stringMatching(searched));
    expect(second.plan).toBe(first.plan);
    expect(second.rows).toEqual(first.rows);
    expect(second.result.weights_sha256).toBe(first.result.weights_sha256);
    expect(readTiles(tileCacheFile()).tiles).toEqual(tiles);

    const again = await run({ tune: 'again' });
    expect(again.said).toContainEqual(expect.stringMatching(searched));
    expect(readTiles(tileCacheFile()).tiles).toEqual(tilesOf(again.plan));
  });

  it('searches nothing where it is off, replays a plan, or goes on from a checkpoint', async () => {
    const off = await run({ tune: 'off' });
    expect(off.rows.every(([, , , , , , , tiles, measured]) => passes.test(tiles!) && measured === '')).toBe(
      true,
    );
    expect(fs.readdirSync(cache)).toEqual([]);

    const controller = new AbortController();
    const whole = await run({ tune: 'once' });
    vi.stubEnv('RP_CACHE_DIR', path.join(cache, 'another'));
    const replay = await run({ tune: 'again', plan: whole.file('plan.json') });
    expect(replay.plan).toBe(whole.plan);
    expect(replay.rows).toEqual(whole.rows);
    expect(replay.result.weights_sha256).toBe(whole.result.weights_sha256);

    const planned: string[] = [];
    const config = experimentConfig({
      ...tinyOptions,
      ...{ device: 'cpu', epochs: 1, tune: 'again', plan: whole.file('plan.json') },
      outputDir: path.join(root, 'stopped'),
    });
    const onEvent = (event: ExperimentEvent) => {
      if (event.type === 'progress') controller.abort();
      if (event.type === 'planned') planned.push(event.plan);
    };
    const stopped = await runExperiment(config, { dataset, onEvent, signal: controller.signal });
    expect(stopped.status).toBe('stopped');
    const resumed = await resumeExperiment(stopped.run_dir!, { dataset, onEvent });
    expect(planned).toEqual([whole.plan, whole.plan]);
    expect(resumed.weights_sha256).toBe(whole.result.weights_sha256);
    expect((await loadCheckpoint(resumed.checkpoint!)).plan).toBe(whole.plan);
    await evaluateCheckpoint(resumed.checkpoint!, { dataset });
    expect(fs.existsSync(path.join(cache, 'another'))).toBe(false);
  });

  it('searches for training alone, not for the saliencies that snip measures', async () => {
    const { said, plan } = await run({ ratio: 'snip', tune: 'once' });
    expect(said.filter((message) => searched.test(message))).toHaveLength(1);
    expect(readTiles(tileCacheFile()).tiles).toEqual(tilesOf(plan));
  });

  it('trains without a cache that can be written, and says so', async () => {
    vi.stubEnv('RP_CACHE_DIR', path.join(cache, 'file'));
    fs.writeFileSync(path.join(cache, 'file'), '');
    const { said, result } = await run({ tune: 'once' });
    expect(said).toContainEqual(expect.stringContaining('the tiles found are not kept'));
    expect(result.status).toBe('done');
  });
});

describe('several processes', () => {
  const { directory, remove } = compileSources();
  afterAll(remove);

  it('that save at once leave a whole file at any moment, and nothing else', async () => {
    const file = tileCacheFile();
    const module = JSON.stringify(path.join(directory, 'src', 'engine', 'tile-cache.js'));
    // Each rewrites one entry of its own and one that all share, which the first of them decides.
    const script = (writer: number) => `
      import { saveTiles } from ${module};
      const tile = (choice) => ({ choice, figures: 'f'.repeat(20000) });
      for (let i = 0; i < 60; i++) {
        const said = saveTiles(${JSON.stringify(file)}, { ['w${writer} ' + i]: tile('${writer}'), all: tile('${writer}') });
        if (said) throw new Error(said);
      }`;
    const exits = [0, 1, 2].map(
      (writer) => startNode(['--input-type=module', '-e', script(writer)], { cwd: cache }).exited,
    );
    let running = true;
    const ended = Promise.all(exits).finally(() => {
      running = false;
    });
    const seen = new Set<number>();
    while (running) {
      const { tiles, notice } = readTiles(file);
      expect(notice).toBeNull();
      seen.add(Object.keys(tiles).length);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    for (const { code, stderr } of await ended) expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(seen.size).toBeGreaterThan(1);
    const { tiles } = readTiles(file);
    // Of two that read the same file, one loses its entry, which is then searched again some day: no count holds.
    expect(Object.keys(tiles).length).toBeGreaterThan(1);
    for (const [key, { choice }] of Object.entries(tiles)) {
      if (key !== 'all') expect(key).toMatch(new RegExp(`^w${choice} \\d+$`));
    }
    expect(fs.readdirSync(cache)).toEqual([path.basename(file)]);
  });
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { diagnosisText } from '../../src/cli/doctor.js';

let empty: string;
beforeEach(() => {
  empty = mkdtempSync(join(tmpdir(), 'rp-doctor-'));
  vi.resetModules();
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(empty, { recursive: true });
});

/** A diagnosis that has loaded no addon yet. */
async function diagnose(env: Record<string, string>) {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const doctor = await import('../../src/cli/doctor.js');
  const diagnosis = await doctor.diagnose({ dataDir: empty });
  return { ...diagnosis, of: (name: string) => diagnosis.checks.find((check) => check.name === name)! };
}

describe('rp doctor', () => {
  it('needs no compiler where an addon loads', async () => {
    const { ok, of } = await diagnose({ PATH: empty, CXX: '' });
    expect(ok).toBe(true);
    expect(of('engine')).toMatchObject({ status: 'ok', detail: expect.stringContaining('cpu, reference') });
    expect(of('cores').detail).toMatch(/^[1-9]\d* for this process/);
    expect(of('tiles').detail).toMatch(/^0 searched, in .*tiles-.*\.json$/);
    expect(of('compiler')).toEqual({
      name: 'compiler',
      status: 'note',
      detail: 'none of g++, clang++ found',
      advice: 'Only needed by `rp build`: sudo apt-get install g++ cmake make',
    });
  });

  it('counts the tiles that are kept, and does not mind a file that is none', async () => {
    const { tileCacheFile, saveTiles } = await import('../../src/engine/tile-cache.js');
    vi.stubEnv('RP_CACHE_DIR', empty);
    const file = tileCacheFile();
    const tile = { choice: 'forward=1x8/3', figures: 'forward 9 GFLOP/s' };
    saveTiles(file, { a: tile, b: tile });
    expect((await diagnose({})).of('tiles')).toEqual({
      name: 'tiles',
      status: 'ok',
      detail: `2 searched, in ${file}`,
    });
    writeFileSync(file, 'no tiles');
    const { ok, of } = await diagnose({});
    expect(ok).toBe(true);
    expect(of('tiles')).toMatchObject({ status: 'note', detail: expect.stringContaining(file) });
  });

  it('is not content without an addon, and says what building one needs', async () => {
    const diagnosis = await diagnose({ PATH: empty, CXX: '', RP_ADDON: join(empty, 'none.node') });
    expect(diagnosis.ok).toBe(false);
    expect(diagnosis.of('engine')).toMatchObject({ status: 'missing', advice: 'Run `rp build`.' });
    expect(diagnosis.of('engine').detail).toContain(`${join(empty, 'none.node')}: no such file`);
    expect(diagnosis.of('cmake').status).toBe('missing');
    const text = diagnosisText(diagnosis).split('\n');
    expect(text).toContain('To do:');
    expect(text).toContain('  engine: Run `rp build`.');
    expect(text).toContain('Not ready to train.');
  });
});

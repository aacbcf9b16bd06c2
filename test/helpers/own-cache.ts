/** Tests never touch the user's tile cache: each worker, and every process it starts, has one of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

if (!process.env.RP_TEST_CACHE) {
  const directory = mkdtempSync(join(tmpdir(), 'rp-tiles-'));
  process.env.RP_TEST_CACHE = directory;
  process.env.RP_CACHE_DIR = directory;
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
}

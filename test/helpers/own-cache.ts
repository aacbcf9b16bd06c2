/** Tests never touch the user's tile cache: each file of tests, and every process it starts, has one of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const directory = mkdtempSync(join(tmpdir(), 'rp-tiles-'));
process.env.RP_CACHE_DIR = directory;
// Not on 'exit': vitest ends its workers without one.
afterAll(() => rmSync(directory, { recursive: true, force: true }));

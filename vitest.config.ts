import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    alias: { 'random-pruning': fileURLToPath(new URL('./src/index.ts', import.meta.url)) },
    // src/checkpoint/checkpoint.pb.js is generated, not committed.
    globalSetup: ['scripts/generate-protobuf.mjs'],
    setupFiles: ['test/helpers/own-cache.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two forks: the engine has threads of its own, and the smallest machine we test on has two cores.
    pool: 'forks',
    maxWorkers: 2,
  },
});

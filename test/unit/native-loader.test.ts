import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { addonPaths, loadAddon, native, nativePath } from '../../src/engine/native.js';
import { EnvironmentError } from '../../src/errors.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rp-loader-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  vi.unstubAllEnvs();
});

it('takes RP_ADDON alone where it is set, else a build of this machine before the prebuilt addon', () => {
  vi.stubEnv('RP_ADDON', '');
  const file = 'random_pruning.node';
  expect(addonPaths('/package')).toEqual([
    `/package/build/Release/${file}`,
    `/package/prebuilds/${process.platform}-${process.arch}/${file}`,
    `/package/build/dev/Release/${file}`,
  ]);
  vi.stubEnv('RP_ADDON', '/elsewhere/x.node');
  expect(addonPaths('/package')).toEqual(['/elsewhere/x.node']);
});

it('passes over what does not load', () => {
  const broken = join(folder, 'broken.node');
  writeFileSync(broken, 'no library');
  const { addon, path } = loadAddon([join(folder, 'none.node'), broken, nativePath()]);
  expect(path).toBe(nativePath());
  expect(addon.session.engines()).toEqual(native().session.engines());
});

it("prints each attempt's own error, then the commands to try", () => {
  const [none, broken] = [join(folder, 'none.node'), join(folder, 'broken.node')];
  writeFileSync(broken, 'no library');
  let message = '';
  try {
    loadAddon([none, broken]);
  } catch (error) {
    expect(error).toBeInstanceOf(EnvironmentError);
    message = (error as Error).message;
  }
  const lines = message.split('\n');
  expect(lines[0]).toBe('The native engine could not be loaded. Tried:');
  expect(lines[1]).toBe(`  ${none}: no such file`);
  expect(lines[2]).toContain(`  ${broken}: `);
  expect(lines[2]).toMatch(/file too short|invalid ELF header|not a mach-o file/);
  expect(lines[3]).toBe(
    'Run `rp build` (in a checkout: `npm run build:native`); `rp doctor` says what is missing.',
  );
});

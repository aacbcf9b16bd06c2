// npm's `prepack`: everything the tarball carries, with this machine's addon as a prebuilt one. `--clean` (postpack)
// takes the prebuilt one away again: in a checkout it would only go stale.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { addonFile, root } from './build-native.mjs';
import { prepare } from './prepare.mjs';

const prebuilds = path.join(root, 'prebuilds');
rmSync(prebuilds, { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  await prepare();
  const folder = path.join(prebuilds, `${process.platform}-${process.arch}`);
  mkdirSync(folder, { recursive: true });
  copyFileSync(addonFile, path.join(folder, 'random_pruning.node'));
}

/** `rp data`: which data sets are here, and getting those that can be downloaded. */

import type { Command } from 'commander';
import {
  type DownloadProgress,
  defaultDataDir,
  downloadDataset,
  findFiles,
  type NaturalName,
  naturalSpecs,
  searchedFolders,
} from '../data/index.js';
import { bytesText } from '../units.js';
import { addOutputFlags, type Cli, type OutputFlags, Stopped, table } from './cli.js';

interface DataFlags extends OutputFlags {
  readonly dataDir?: string;
  readonly baseUrl?: string;
}

const names = Object.keys(naturalSpecs) as NaturalName[];

export function dataVerb(program: Command, cli: Cli): void {
  const command = program.command('data').description('List the data sets of this machine, or download one.');
  const list = command
    .command('list', { isDefault: true })
    .description('which data sets are here, and where they are looked for')
    .option('--data-dir <dir>', 'where the data sets lie (default: RP_DATA, else data)');
  addOutputFlags(list);
  list.action(() => listData(cli, list.opts<DataFlags>()));

  const get = command
    .command('get')
    .description('download a data set with progress; goes on where an earlier download stopped')
    .argument('<name>', 'cifar10 or cifar100')
    .option('--data-dir <dir>', 'where to put it (default: RP_DATA, else data)')
    .option('--base-url <url>', 'a mirror that has the same archive');
  addOutputFlags(get);
  get.action((name: string) => getData(name, cli, get.opts<DataFlags>()));
}

async function listData(cli: Cli, flags: DataFlags): Promise<void> {
  const dataDir = flags.dataDir ?? defaultDataDir();
  const rows = await Promise.all(
    names.map(async (name) => {
      const found = await findFiles(name, dataDir).catch((error: Error) => error);
      const folder = found instanceof Error ? null : (found?.folder ?? null);
      const note = found instanceof Error ? found.message : '';
      return {
        name,
        title: naturalSpecs[name].title,
        folder,
        note,
        searched: searchedFolders(name, dataDir),
      };
    }),
  );
  if (flags.json) {
    cli.stdout.write(`${JSON.stringify({ data_dir: dataDir, datasets: rows })}\n`);
    return;
  }
  const shown = rows.map(({ name, title, folder, note }) => [name, title, note || (folder ?? 'not here')]);
  cli.stdout.write(
    table([['name', '', 'found in'], ...shown, ['synthetic', 'built-in images', 'generated from a seed']]),
  );
  cli.stdout.write(
    `\nData directory: ${dataDir} (--data-dir, RP_DATA). \`rp data get cifar10\` downloads.\n`,
  );
}

async function getData(name: string, cli: Cli, flags: DataFlags): Promise<void> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  const live = cli.stderr.isTTY === true && flags.progress && !flags.quiet;
  let shown = '';
  const onProgress = ({ phase, received, total }: DownloadProgress) => {
    if (flags.quiet || !flags.progress) return;
    // A terminal sees every percent on one line, a log every tenth.
    const percent = total ? Math.floor((100 * received) / total) : null;
    const step = live || percent === null ? percent : percent - (percent % 10);
    const text = `${name}: ${phase}${step === null ? '' : ` ${step}% of ${bytesText(total!)}`}`;
    if (text === shown) return;
    shown = text;
    cli.stderr.write(live ? `\r\x1b[2K${text}` : `${text}\n`);
  };
  try {
    const result = await downloadDataset(name, flags.dataDir ?? defaultDataDir(), {
      baseUrl: flags.baseUrl,
      signal: controller.signal,
      onProgress,
    });
    if (live && shown) cli.stderr.write('\n');
    const { folder, downloaded } = result;
    if (flags.json) cli.stdout.write(`${JSON.stringify({ name, folder, downloaded })}\n`);
    else cli.stdout.write(`${folder}${downloaded ? '' : ' (was there already)'}\n`);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    cli.stderr.write(`\nStopped. What came is kept: run it again to go on.\n`);
    throw new Stopped(130);
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

/** `rp doctor`: what this machine has for training, what it lacks, and what to do about it. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import os from 'node:os';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import { defaultDataDir, findFiles, type NaturalName, naturalSpecs } from '../data/index.js';
import { availableMemory } from '../engine/memory.js';
import { native, nativePath } from '../engine/native.js';
import { processorName } from '../engine/processor.js';
import { readTiles, tileCacheFile } from '../engine/tile-cache.js';
import { EnvironmentError } from '../errors.js';
import { packageVersion } from '../training/machine.js';
import { bytesText } from '../units.js';
import { addOutputFlags, type Cli, type OutputFlags } from './cli.js';

export interface Check {
  readonly name: string;
  /** `missing`: training is not possible; `note`: it is, but something could be better. */
  readonly status: 'ok' | 'note' | 'missing';
  readonly detail: string;
  readonly advice?: string;
}

export interface Diagnosis {
  readonly version: string;
  /** Whether training is possible. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

export interface DoctorOptions {
  readonly dataDir?: string | undefined;
}

/** First line of a tool's `--version`, or null when there is no such tool. */
function toolVersion(name: string): string | null {
  const folders = (process.env.PATH ?? '').split(delimiter);
  if (!folders.some((folder) => existsSync(join(folder, name))) && !existsSync(name)) return null;
  const { status, stdout } = spawnSync(name, ['--version'], { encoding: 'utf8' });
  return status === 0 ? (stdout.split('\n')[0] ?? '').trim() : null;
}

function checkNode(): Check {
  const name = 'node';
  const detail = `${process.version}, ${process.platform}-${process.arch}`;
  if (Number(process.versions.node.split('.')[0]) >= 20) return { name, status: 'ok', detail };
  return { name, status: 'missing', detail, advice: 'Install Node.js 20 or newer.' };
}

function checkTool(name: string, commands: readonly string[], needed: boolean): Check {
  for (const command of commands) {
    const version = toolVersion(command);
    if (version === null) continue;
    // ninja prints its number alone.
    return { name, status: 'ok', detail: /[a-z]/i.test(version) ? version : `${command} ${version}` };
  }
  return {
    name,
    status: needed ? 'missing' : 'note',
    detail: `none of ${commands.join(', ')} found`,
    advice: needed
      ? 'The native engine must be built here: sudo apt-get install g++ cmake make'
      : 'Only needed by `rp build`: sudo apt-get install g++ cmake make',
  };
}

function checkEngine(): Check[] {
  try {
    const { isas, isa, cores } = native().session.cpu();
    const engines = native().session.engines().join(', ');
    return [
      { name: 'engine', status: 'ok', detail: `${nativePath()} (${engines})` },
      {
        name: 'processor',
        status: isa === 'portable' ? 'note' : 'ok',
        detail: `${processorName()}: kernels ${isa} (has ${isas.join(', ')})`,
        ...(isa === 'portable' && { advice: 'Neither AVX2 nor AVX-512 is in use: expect a slow run.' }),
      },
      { name: 'cores', status: 'ok', detail: `${cores} for this process, of ${os.cpus().length}` },
    ];
  } catch (error) {
    return [
      {
        name: 'engine',
        status: 'missing',
        detail: (error as Error).message,
        advice: 'Run `rp build`.',
      },
    ];
  }
}

function checkMemory(): Check {
  const free = availableMemory();
  const status = free < 1e9 ? 'note' : 'ok';
  const detail = `${bytesText(free)} available, of ${bytesText(os.totalmem())}`;
  if (status === 'ok') return { name: 'memory', status, detail };
  return { name: 'memory', status, detail, advice: 'Take a small network, or a small --batch-size.' };
}

async function checkData(dataDir: string): Promise<Check> {
  const found: string[] = [];
  const broken: string[] = [];
  for (const name of Object.keys(naturalSpecs) as NaturalName[]) {
    try {
      const files = await findFiles(name, dataDir);
      if (files) found.push(`${name} in ${files.folder}`);
    } catch (error) {
      broken.push((error as Error).message);
    }
  }
  const detail = [...found, ...broken].join('; ') || `none in ${dataDir}`;
  if (found.length > 0 && broken.length === 0) return { name: 'data sets', status: 'ok', detail };
  return {
    name: 'data sets',
    status: 'note',
    detail,
    advice:
      'Without one, runs take a built-in set of generated images. `rp data get cifar10`, or: sudo apt-get install dataset-fashion-mnist',
  };
}

function checkTiles(): Check {
  const file = tileCacheFile();
  const { tiles, notice } = readTiles(file);
  const detail = notice ?? `${Object.keys(tiles).length} searched, in ${file}`;
  return { name: 'tiles', status: notice ? 'note' : 'ok', detail };
}

/** Looks at everything; throws nothing. */
export async function diagnose(options: DoctorOptions = {}): Promise<Diagnosis> {
  const engine = checkEngine();
  const mustBuild = engine.some(({ status }) => status === 'missing');
  const checks = [
    checkNode(),
    ...engine,
    checkTool('compiler', process.env.CXX ? [process.env.CXX] : ['g++', 'clang++'], mustBuild),
    checkTool('cmake', ['cmake'], mustBuild),
    checkTool('make', ['ninja', 'make'], mustBuild),
    checkMemory(),
    ...(mustBuild ? [] : [checkTiles()]),
    await checkData(options.dataDir ?? defaultDataDir()),
    { name: 'gpu', status: 'ok', detail: 'not used: this build has no CUDA back-end' } as const,
  ];
  return { version: packageVersion(), ok: checks.every(({ status }) => status !== 'missing'), checks };
}

const MARKS = { ok: '✓', note: '•', missing: '✗' } as const;

/** The diagnosis for people; ends with what to do. */
export function diagnosisText({ version, ok, checks }: Diagnosis): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.map(({ name, status, detail }) => `${MARKS[status]} ${name.padEnd(width)}  ${detail}`);
  const advice = checks.flatMap((check) => (check.advice ? [`${check.name}: ${check.advice}`] : []));
  return [
    `random-pruning ${version}`,
    ...lines,
    '',
    ...(advice.length > 0 ? ['To do:', ...advice.map((line) => `  ${line}`)] : []),
    ok ? 'Ready to train.' : 'Not ready to train.',
    '',
  ].join('\n');
}

interface DoctorFlags extends OutputFlags {
  readonly dataDir?: string;
}

export function doctorVerb(program: Command, cli: Cli): void {
  const command = program
    .command('doctor')
    .description('Say what this machine has for training, what it lacks, and what to do.')
    .option('--data-dir <dir>', 'where the data sets lie (default: RP_DATA, else data)');
  addOutputFlags(command);
  command.action(async () => {
    const flags = command.opts<DoctorFlags>();
    const diagnosis = await diagnose(flags);
    cli.stdout.write(flags.json ? `${JSON.stringify(diagnosis)}\n` : diagnosisText(diagnosis));
    if (!diagnosis.ok) {
      const lacking = diagnosis.checks.filter(({ status }) => status === 'missing');
      throw new EnvironmentError(`rp doctor: missing: ${lacking.map(({ name }) => name).join(', ')}.`);
    }
  });
}

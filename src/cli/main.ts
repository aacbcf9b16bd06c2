#!/usr/bin/env node
/**
 * `rp`: verbs, exit codes and nothing else. Libraries throw typed errors (src/errors.ts); this is the one place that
 * turns them into exit codes: 0 done, 1 run failed, 2 usage or config, 3 environment, 4 corrupt file, 130/143 stopped
 * by a signal after saving.
 */
import { realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Command, CommanderError } from 'commander';
import { UsageError } from '../errors.js';
import { suggest } from '../suggest.js';
import { packageVersion } from '../training/machine.js';
import { benchVerb } from './bench.js';
import { buildVerb } from './build.js';
import { type Cli, Stopped } from './cli.js';
import { dataVerb } from './data.js';
import { doctorVerb } from './doctor.js';
import { evalVerb } from './eval.js';
import { modelsVerb } from './models.js';
import { resumeVerb } from './resume.js';
import { runVerb } from './run.js';
import { sparsityVerb } from './sparsity.js';

/** In the order of the help. */
const verbs = [
  runVerb,
  resumeVerb,
  evalVerb,
  sparsityVerb,
  modelsVerb,
  dataVerb,
  benchVerb,
  doctorVerb,
  buildVerb,
];

/** Commander's complaint in the words of every other error here: where, what came, what was meant. */
function usageError(error: CommanderError, command: Command): UsageError {
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? '';
  const meant = (known: readonly string[]) => {
    const name = suggest(quoted, known);
    return name ? ` Did you mean ${name}?` : '';
  };
  const help = ` \`${fullName(command)} --help\` lists them.`;
  if (error.code === 'commander.unknownOption') {
    const known = command.options.flatMap((option) => (option.long ? [option.long] : []));
    return new UsageError(`${quoted}: unknown flag.${meant(known) || help}`);
  }
  if (error.code === 'commander.unknownCommand') {
    const known = command.commands.map((verb) => verb.name());
    return new UsageError(`${quoted}: unknown command. Known: ${known.join(', ')}.${meant(known)}`);
  }
  return new UsageError(error.message.replace(/^error: /, ''));
}

function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();
}

/** Makes every command throw a UsageError where commander would end the process. */
function throwing(command: Command, cli: Cli): void {
  command.exitOverride((error) => {
    throw error.exitCode === 0 ? error : usageError(error, command);
  });
  command.configureOutput({
    writeOut: (text) => cli.stdout.write(text),
    writeErr: () => undefined,
    outputError: () => undefined,
  });
  for (const child of command.commands) throwing(child, cli);
}

export function makeProgram(cli: Cli): Command {
  const program = new Command('rp')
    .description('Trains randomly pruned networks from scratch (ICLR 2022), sparse from the first step.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpCommand(false)
    .addHelpText('after', '\nFirst run:\n  rp run --arch resnet20 --ratio erk --sparsity 0.5 --epochs 2');
  for (const verb of verbs) verb(program, cli);
  throwing(program, cli);
  return program;
}

/** Runs one command line; gives its exit code. */
export async function main(argv: readonly string[], cli: Cli): Promise<number> {
  const program = makeProgram(cli);
  try {
    if (argv.length === 0) {
      cli.stderr.write(program.helpInformation());
      return 2;
    }
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof Stopped) return error.exitCode;
    const { exitCode, code } = error as { exitCode?: unknown; code?: unknown };
    const expected = typeof exitCode === 'number' || typeof code === 'string';
    const verbose = argv.includes('-v') || argv.includes('--verbose');
    const message = error instanceof Error ? error.message : String(error);
    // An error nobody threw on purpose is a bug: its stack is what a report needs.
    cli.stderr.write(`${(!expected || verbose) && error instanceof Error ? error.stack : message}\n`);
    return typeof exitCode === 'number' ? exitCode : 1;
  }
}

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(realpathSync(entry)).href) {
  // A reader that has seen enough (`rp models | head`) ends neither a run nor its exit code.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  process.exitCode = await main(process.argv.slice(2), process);
}

/** Where settings come from, weakest first: the file of `-c`, `RP_*` variables, `--set a.b=c`, flags. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Command } from 'commander';
import { parse, YAMLParseError } from 'yaml';
import { configFields, type ExperimentConfig, type Field } from '../config.js';
import { ConfigError, EnvironmentError } from '../errors.js';
import { type ConfigLayer, resolveConfig } from '../resolve-config.js';
import { suggest, unknownName } from '../suggest.js';
import { addConfigFlags, assign, flagLayer, fromText } from './flags.js';

/** A config file is a page or two; anything larger is not one. */
const maxConfigBytes = 1 << 20;

const nameOf = (field: Field) => field.path.join('.');

/** `RP_BATCH_SIZE` for batchSize. */
export const variableName = (field: Field) =>
  field.env ?? `RP_${field.path.join('_').replace(/[A-Z]/g, '_$&').toUpperCase()}`;

/** Paths in a layer are relative to `directory`: a config file's own, or the working directory. */
function anchorPaths(values: Record<string, unknown>, directory: string): void {
  const { plan, ratio } = values;
  if (typeof plan === 'string') values.plan = path.resolve(directory, plan);
  if (typeof ratio === 'string' && ratio.startsWith('file:')) {
    values.ratio = `file:${path.resolve(directory, ratio.slice('file:'.length))}`;
  }
}

export function fileLayer(file: string): ConfigLayer {
  let text: string;
  try {
    if (fs.statSync(file).size > maxConfigBytes) {
      throw new ConfigError(`--config ${file}: larger than ${maxConfigBytes} bytes; not a configuration.`);
    }
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new EnvironmentError(`--config ${file}: ${(error as Error).message}`);
  }
  let values: unknown;
  try {
    values = parse(text, { maxAliasCount: 10 }) ?? {};
  } catch (error) {
    const at = error instanceof YAMLParseError && error.linePos ? `:${error.linePos[0].line}` : '';
    throw new ConfigError(`--config ${file}${at}: not YAML: ${(error as Error).message.split('\n')[0]}`);
  }
  if (typeof values !== 'object' || Array.isArray(values)) {
    throw new ConfigError(
      `--config ${file}: expected settings (\`lr: 0.1\`), got ${Array.isArray(values) ? 'a list' : `"${values}"`}.`,
    );
  }
  anchorPaths(values as Record<string, unknown>, path.dirname(path.resolve(file)));
  return { values: values as object, where: (at) => `${file}: ${at.join('.')}` };
}

export function environmentLayer(env: NodeJS.ProcessEnv): ConfigLayer {
  const values = {};
  const variables = new Map(configFields.map((field) => [variableName(field), field]));
  for (const [name, text] of Object.entries(env)) {
    const field = variables.get(name);
    if (field && text !== undefined && text !== '') assign(values, field.path, fromText(field, text));
    // Other RP_ variables serve the build and the loader; only a near miss of a setting is a slip.
    const meant =
      !field && name.startsWith('RP_')
        ? suggest(
            name.slice(3),
            [...variables.keys()].map((known) => known.slice(3)),
          )
        : undefined;
    if (meant) throw new ConfigError(`${name}: unknown variable. Did you mean RP_${meant}?`);
  }
  anchorPaths(values, process.cwd());
  const byName = new Map(configFields.map((field) => [nameOf(field), variableName(field)]));
  return { values, where: (at) => byName.get(at.join('.')) ?? at.join('.') };
}

export function setLayer(assignments: readonly string[]): ConfigLayer {
  const values = {};
  const fields = new Map(configFields.map((field) => [nameOf(field), field]));
  for (const assignment of assignments) {
    const [, name, text] = /^([^=]+)=(.*)$/s.exec(assignment) ?? [];
    if (name === undefined) {
      throw new ConfigError(`--set ${assignment}: expected name=value, got "${assignment}".`);
    }
    const field = fields.get(name);
    if (!field) throw unknownName(`--set ${assignment}`, 'setting', name, [...fields.keys()]);
    assign(values, field.path, fromText(field, text!));
  }
  anchorPaths(values, process.cwd());
  return { values, where: (at) => `--set ${at.join('.')}` };
}

/** The flags of a verb that takes an experiment: those of the fields (all, or the ones named), and their files. */
export function addExperimentFlags(command: Command, fields?: readonly string[]): void {
  addConfigFlags(command, fields);
  command
    .optionsGroup('Configuration:')
    .option('-c, --config <file>', 'settings from a YAML file; a flag beside it wins')
    .option(
      '--set <name=value>',
      'set any field of the configuration; repeatable',
      (value, before: string[] = []) => [...before, value],
    )
    .option('--print-config', 'print the complete configuration as YAML and stop')
    .addHelpText(
      'after',
      '\nEvery setting is also a variable: RP_EPOCHS=2, RP_INITIALISATION_FAN=out. The stronger source wins:\n' +
        'defaults < recipe < file < environment < --set < flags.',
    );
}

/** The experiment that file, environment and flags describe together. */
export function experimentOf(command: Command, env: NodeJS.ProcessEnv): ExperimentConfig {
  const { config, set = [] } = command.opts<{ config?: string; set?: string[] }>();
  const flags = flagLayer(command);
  anchorPaths(flags.values as Record<string, unknown>, process.cwd());
  return resolveConfig([
    ...(config === undefined ? [] : [fileLayer(config)]),
    environmentLayer(env),
    setLayer(set),
    flags,
  ]);
}

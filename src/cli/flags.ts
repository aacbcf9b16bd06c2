/** Commander options made from the fields of src/config.ts, and the settings that the typed ones hold. */
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { configFields, type Field } from '../config.js';
import type { ConfigLayer } from '../resolve-config.js';

/** The heading in the help that starts at each field. */
const headings: Record<string, string> = {
  arch: 'Network:',
  ratio: 'Pruning:',
  data: 'Data:',
  preset: 'Training:',
  seed: 'Seeds:',
  device: 'Machine:',
  outputDir: 'Output:',
};

const nameOf = (field: Field) => field.path.join('.');
/** `--batch-size` of `-b, --batch-size <n>`. */
export const flagName = (field: Field) => /--[a-z-]+/.exec(field.flag ?? '')![0];

/** Adds the flags of every field, or of those named. */
export function addConfigFlags(command: Command, names?: readonly string[]): void {
  let heading = '';
  for (const field of configFields) {
    heading = headings[field.path[0]!] ?? heading;
    if (names && !names.includes(nameOf(field))) continue;
    const shown =
      field.default === undefined || field.default === null || typeof field.default === 'boolean'
        ? ''
        : ` (default: ${field.default})`;
    command.addOption(new Option(field.flag!, field.help + shown).helpGroup(heading));
    if (field.negation) {
      command.addOption(new Option(field.negation, `not ${flagName(field)}`).helpGroup(heading));
    }
  }
}

/** A value typed as text, as the field's type wants it; what does not fit stays text and fails the field's check. */
export function fromText(field: Field, text: string): unknown {
  let schema = field.schema;
  if (schema instanceof z.ZodNullable) {
    if (text === 'none' || text === 'null') return null;
    schema = schema.unwrap() as z.ZodType;
  }
  const number = (word: string) =>
    word.trim() !== '' && Number.isFinite(Number(word)) ? Number(word) : word;
  if (schema instanceof z.ZodNumber) return number(text);
  if (schema instanceof z.ZodBoolean) {
    if (/^(true|yes|on|1)$/i.test(text)) return true;
    return /^(false|no|off|0)$/i.test(text) ? false : text;
  }
  if (schema instanceof z.ZodArray) return /^(none)?$/.test(text) ? [] : text.split(',').map(number);
  return text;
}

/** Puts `value` at a field's place in nested settings. */
export function assign(settings: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path;
  if (rest.length === 0) {
    settings[key!] = value;
    return;
  }
  settings[key!] ??= {};
  assign(settings[key!] as Record<string, unknown>, rest, value);
}

/** The settings that were typed as flags of `command`. */
export function flagLayer(command: Command): ConfigLayer {
  const typed = command.opts<Record<string, string | boolean | undefined>>();
  const values = {};
  for (const field of configFields) {
    const value = typed[new Option(field.flag!).attributeName()];
    if (value !== undefined)
      assign(values, field.path, typeof value === 'string' ? fromText(field, value) : value);
  }
  const byName = new Map(configFields.map((field) => [nameOf(field), flagName(field)]));
  return { values, where: (path) => byName.get(path.join('.')) ?? `--${path.join('.')}` };
}

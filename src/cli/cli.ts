/** What every verb gets: where to write, and how much. stdout carries results only; everything else is stderr. */
import type { Command } from 'commander';

export interface Stream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface Cli {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: NodeJS.ProcessEnv;
}

export interface OutputFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly progress: boolean;
}

export function addOutputFlags(command: Command): Command {
  return command
    .optionsGroup('What is printed:')
    .option('--json', 'print the result as one line of JSON')
    .option('-q, --quiet', 'no progress and no notices, only the result')
    .option('-v, --verbose', "more: each layer's kernel, stacks of errors")
    .option('--no-progress', 'no progress lines')
    .optionsGroup('Other:')
    .helpOption('-h, --help', 'this help');
}

/** Ends a verb early with an exit code that is no error: 130 and 143, stopped by a signal after saving. */
export class Stopped extends Error {
  constructor(readonly exitCode: number) {
    super(`stopped (${exitCode})`);
  }
}

/** Columns of text, numbers to the right; no wider than its contents. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const [head = []] = rows;
  const widths = head.map((_, column) => Math.max(...rows.map((row) => String(row[column]).length)));
  const numeric = head.map((_, column) =>
    rows.slice(1).every((row) => typeof row[column] === 'number' || /^[-\d.,%]+$/.test(String(row[column]))),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          numeric[column] ? String(cell).padStart(widths[column]!) : String(cell).padEnd(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** 1234567 → 1,234,567. */
export const grouped = (value: number) => value.toLocaleString('en-US');

/** 4000 → 1h07m; 75 → 1m15s. */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  const pad = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
}

/** The sources as plain JavaScript, for tests that must start, signal and kill a process of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Transpiles src/ and models/ (no type checks) below build/, where imports and the addon resolve as in dist/. */
export function compileSources(): { readonly directory: string; readonly remove: () => void } {
  fs.mkdirSync(path.join(root, 'build'), { recursive: true });
  const directory = fs.mkdtempSync(path.join(root, 'build', 'test-sources-'));
  for (const top of ['src', 'models']) {
    for (const name of fs.readdirSync(path.join(root, top), { recursive: true, encoding: 'utf8' })) {
      const from = path.join(root, top, name);
      const to = path.join(directory, top, name);
      if (name.endsWith('.pb.js')) {
        fs.mkdirSync(path.dirname(to), { recursive: true });
        fs.copyFileSync(from, to);
      } else if (name.endsWith('.ts') && !name.endsWith('.d.ts')) {
        const compilerOptions = {
          target: ts.ScriptTarget.ES2022,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
        };
        const { outputText } = ts.transpileModule(fs.readFileSync(from, 'utf8'), { compilerOptions });
        fs.mkdirSync(path.dirname(to), { recursive: true });
        fs.writeFileSync(to.replace(/\.ts$/, '.js'), outputText);
      }
    }
  }
  return { directory, remove: () => fs.rmSync(directory, { recursive: true, force: true }) };
}

export interface Exited {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `node ...argv`, in `cwd`; `exited` resolves at its end. */
export function startNode(
  argv: readonly string[],
  { cwd }: { readonly cwd?: string } = {},
): {
  readonly child: ChildProcess;
  readonly exited: Promise<Exited>;
} {
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd !== undefined && { cwd }),
  });
  let [stdout, stderr] = ['', ''];
  child.stdout!.on('data', (text) => {
    stdout += text;
  });
  child.stderr!.on('data', (text) => {
    stderr += text;
  });
  const exited = new Promise<Exited>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, exited };
}

/** Resolves when `test` holds, looked at every few milliseconds; rejects after `seconds`. */
export async function until(test: () => boolean, what: string, seconds = 60): Promise<void> {
  const end = Date.now() + 1000 * seconds;
  while (!test()) {
    if (Date.now() > end) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Which dense peers this machine has, and what to install for those it lacks. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sparsityOf } from '../config.js';
import { packageRoot } from '../engine/native.js';
import { benchOptimiser } from './case.js';
import type { ContestantSpec } from './contestant.js';

/** A python3 with PyTorch: RP_PYTHON, then the usual ones. */
export function findTorchPython(): string | null {
  for (const python of [process.env.RP_PYTHON, 'python3', '/usr/bin/python3']) {
    if (!python) continue;
    try {
      execFileSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore' });
      return python;
    } catch {
      // Not this one.
    }
  }
  return null;
}

/** Whether the processor multiplies bf16; emulated, it would be no peer. */
function hasBf16(): boolean {
  try {
    return /avx512_bf16|amx_bf16/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}

export interface Peers {
  readonly contestants: readonly ContestantSpec[];
  /** One sentence a missing peer, with the package that brings it. */
  readonly missing: readonly string[];
}

/** Dense peers for a case; `oneDnn`: the program of bench/train, default RP_BENCH_ONEDNN, then a bench build's. */
export function findPeers(directory: string, threads: number): Peers {
  const contestants: ContestantSpec[] = [];
  const missing: string[] = [];
  const program =
    process.env.RP_BENCH_ONEDNN ??
    join(packageRoot(), 'build', 'bench', 'bench', 'train', 'rp_bench_onednn_step');
  if (existsSync(program)) {
    const { lr, momentum, weightDecay } = benchOptimiser;
    const settings = {
      '--threads': threads,
      '--lr': lr,
      '--momentum': momentum,
      '--weight-decay': weightDecay,
    };
    contestants.push({
      name: 'oneDNN primitives',
      kind: 'onednn',
      precision: 'fp32',
      command: program,
      args: [directory, ...Object.entries(settings).flatMap(([flag, value]) => [flag, String(value)])],
    });
  } else {
    missing.push(
      'oneDNN: no bench program. In a checkout: sudo apt-get install libdnnl-dev, then npm run bench builds it.',
    );
  }
  const python = findTorchPython();
  const script = join(packageRoot(), 'bench', 'peers', 'torch_step.py');
  if (python === null || !existsSync(script)) {
    missing.push(
      'PyTorch: no python3 with torch and numpy. sudo apt-get install python3-torch, or set RP_PYTHON.',
    );
    return { contestants, missing };
  }
  for (const form of ['nchw', 'channels_last', 'bf16'] as const) {
    if (form === 'bf16' && !hasBf16()) {
      missing.push('PyTorch bf16: this processor has no bf16 arithmetic.');
      continue;
    }
    contestants.push({
      name: form === 'bf16' ? 'PyTorch bf16 channels_last' : `PyTorch ${form}`,
      kind: 'pytorch',
      precision: form === 'bf16' ? 'bf16' : 'fp32',
      command: python,
      args: [script, directory, String(threads), form],
    });
  }
  return { contestants, missing };
}

/** Our own engine, dense or under a mask. */
export function ours(
  directory: string,
  threads: number,
  sparse?: { readonly ratio: string; readonly density: number },
): ContestantSpec {
  const script = fileURLToPath(new URL('./ours.js', import.meta.url));
  return {
    name: sparse ? `ours ${sparse.ratio} ${sparsityOf(sparse)}` : 'ours dense',
    kind: 'ours',
    precision: 'fp32',
    ...(sparse && { sparse }),
    command: process.execPath,
    args: [script, directory, String(threads), ...(sparse ? [sparse.ratio, String(sparse.density)] : [])],
  };
}

/**
 * Our engine as a contestant, a process of its own so that its peak memory is its own:
 *
 *   node ours.js CASE_DIRECTORY THREADS [RATIO DENSITY]
 *
 * Says its version, then answers each line of stdin with one of JSON: `steps N` trains N steps; `masked RATIO
 * DENSITY`, for the dense network only, gives the loss of the initial weights with the mask of that sparse contestant
 * on them, which a sparse network's first loss must equal; `profile N` trains N steps and gives their ops.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildModel } from '../architectures/index.js';
import { native } from '../engine/native.js';
import type { SessionOptions } from '../engine/session.js';
import { createTunedSession } from '../engine/tile-cache.js';
import type { Graph } from '../graph/types.js';
import { type Mask, packValues, unpackValues } from '../masks/index.js';
import { packageVersion } from '../training/machine.js';
import { weightDecays } from '../training/state.js';
import type { BenchCase } from './case.js';
import { benchMasks } from './masks.js';

const [directory = '', threads = '0', ratio, density] = process.argv.slice(2);
const read = (name: string) => {
  const { buffer, byteOffset, byteLength } = readFileSync(join(directory, name));
  return buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
};
const description = JSON.parse(readFileSync(join(directory, 'case.json'), 'utf8')) as BenchCase;
const { lr, momentum, weightDecay, arch, batchSize } = description;
const { graph } = buildModel(arch);
const masks = ratio ? benchMasks(graph, ratio, Number(density)).masks : graph.params.map(() => null);
const options: SessionOptions = {
  graph,
  engine: 'cpu',
  masks,
  weightDecay: weightDecays(graph, weightDecay, 'all'),
  batchSize,
  programs: ['train'],
  threads: Number(threads),
};
const { session } = await createTunedSession(options, { tune: 'once' });

/** Writes the case's weights; `extra` zeroes what a mask does not keep. */
async function load(of: Graph, extra?: readonly (Mask | null)[]): Promise<void> {
  const weights = new Float32Array(read('weights.f32'));
  let at = 0;
  for (const [i, { name, numel }] of of.params.entries()) {
    let values = weights.subarray(at, at + numel);
    at += numel;
    const mask = extra?.[i];
    if (mask) values = unpackValues(packValues(values, mask), mask, numel);
    await session.write('value', name, packValues(values, masks[i] ?? null));
  }
}

const images = new Float32Array(read('images.f32'));
const labels = new Int32Array(read('labels.i32'));
await load(graph);

/** Highest resident set so far, or null where the system does not say. */
function peakBytes(): number | null {
  try {
    return 1024 * Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
  } catch {
    return null;
  }
}

async function train(steps: number): Promise<{ seconds: number[]; losses: number[] }> {
  const seconds: number[] = [];
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const start = performance.now();
    const { loss } = await session.step(images, labels, { lr, momentum });
    seconds.push((performance.now() - start) / 1000);
    losses.push(loss);
  }
  return { seconds, losses };
}

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
try {
  writeFileSync('/proc/self/clear_refs', '5'); // the peak counts from here, without the files just read
} catch {
  // Not Linux: the peak is then the process's.
}
say({ version: `random-pruning ${packageVersion()} (${native().session.cpu().isa})`, plan: session.memory });
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...words] = line.split(' ');
  if (verb === 'masked') {
    await load(graph, benchMasks(graph, words[0]!, Number(words[1])).masks);
    const { loss } = await session.gradient(images, labels, { updateRunningStats: false });
    await load(graph);
    say({ loss });
  } else if (verb === 'profile') {
    await session.startProfile();
    await train(Number(words[0]));
    say({ events: await session.stopProfile() });
  } else {
    say({ ...(await train(Number(words[0]))), peak_bytes: peakBytes() });
  }
}
await session.dispose();

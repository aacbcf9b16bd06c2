/**
 * Our engine beside PyTorch on the same numbers: same initial weights, masks and batches, losses equal within 1e-4
 * for 20 Nesterov steps of ResNet-20, dense and ERK 0.9. Runs where a python3 with PyTorch is found (RP_PYTHON, then
 * the usual ones); on Debian: apt-get install python3-torch.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  buildModel,
  createSession,
  initialWeights,
  layerDensities,
  openLoader,
  packValues,
  prunableLayers,
  resolveDataset,
  sampleMasks,
  unpackValues,
} from 'random-pruning';
import { describe, expect, it } from 'vitest';

const peer = fileURLToPath(new URL('../../bench/peers/torch_resnet.py', import.meta.url));

function findTorchPython(): string | null {
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

const python = findTorchPython();
const steps = 20;
const batchSize = 32;
const lr = 0.1;

async function compare(density: number): Promise<{ ours: number[]; theirs: number[] }> {
  const model = buildModel('resnet20', { classes: 10 });
  const layers = prunableLayers(model.graph);
  const densities = layerDensities({ policy: density < 1 ? 'erk' : 'dense', layers, density });
  const masks = sampleMasks({
    graph: model.graph,
    densities,
    sampler: 'bernoulli',
    granularity: 'weight',
    seed: 3,
  });
  const weights = initialWeights(model.graph, { scheme: model.initialisation, seed: 5 });
  const dataset = await resolveDataset({ data: 'synthetic', dataDir: null, model, seed: 7 });
  const loader = openLoader(dataset, {
    split: 'train',
    batchSize,
    accumulate: 1,
    shuffle: true,
    augment: true,
    dropLast: true,
    seed: 11,
    workers: 1,
  });
  const session = await createSession({
    graph: model.graph,
    engine: 'cpu',
    masks,
    batchSize,
    programs: ['train'],
    weightDecay: model.graph.params.map(() => 5e-4),
  });
  const folder = mkdtempSync(join(tmpdir(), 'rp-pytorch-'));
  try {
    const parameters = [];
    for (const [index, param] of model.graph.params.entries()) {
      const mask = masks[index] ?? null;
      const packed = packValues(weights.get(param.name)!, mask);
      await session.write('value', param.name, packed);
      const values = `value-${index}.f32`;
      writeFileSync(join(folder, values), new Float32Array(unpackValues(packed, mask, param.numel)));
      if (!mask) {
        parameters.push({ name: param.name, values });
        continue;
      }
      const kept = `mask-${index}.u8`;
      const bytes = Uint8Array.from({ length: param.numel }, (_, i) => (mask.bits[i >> 3]! >> (i & 7)) & 1);
      writeFileSync(join(folder, kept), bytes);
      parameters.push({ name: param.name, values, mask: kept });
    }
    const ours = [];
    const batches = [];
    for (let step = 0; step < steps; step++) {
      const { images, labels } = await loader.batch(step, 0);
      const names = { images: `images-${step}.f32`, labels: `labels-${step}.i32` };
      writeFileSync(join(folder, names.images), images);
      writeFileSync(join(folder, names.labels), labels);
      batches.push(names);
      const { loss } = await session.step(images, labels, { lr, momentum: 0.9, nesterov: true });
      ours.push(loss);
    }
    writeFileSync(
      join(folder, 'case.json'),
      JSON.stringify({ depth: 20, width: 16, classes: 10, lr, parameters, batches }),
    );
    const output = execFileSync(python!, [peer, 'steps', folder], { encoding: 'utf8' });
    return { ours, theirs: JSON.parse(output).losses };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await session.dispose();
    loader.dispose();
  }
}

describe.skipIf(!python)(
  'losses equal PyTorch’s step by step (skips without a python3 that has PyTorch)',
  () => {
    it.each([
      ['dense', 1],
      ['ERK at sparsity 0.9', 0.1],
    ])('ResNet-20 %s, 20 steps', async (_, density) => {
      const { ours, theirs } = await compare(density);
      expect(theirs).toHaveLength(steps);
      for (let step = 0; step < steps; step++) {
        expect(Math.abs(ours[step]! - theirs[step]!), `step ${step}`).toBeLessThanOrEqual(1e-4);
      }
    });
  },
);

/**
 * Our engines beside PyTorch on the same numbers: same initial weights, masks and batches; losses of 20 Nesterov steps of
 * ResNet-20, dense and ERK 0.9. In float64 the recipe's own rate: rounding alone then stays below 1e-8. In float32 a
 * small rate: at 0.1 two float32 runs part after three steps whoever computes them, PyTorch's float32 and
 * float64 included, so step-by-step equality can only be asked where rounding does not grow.
 * Runs where a python3 with PyTorch is found (RP_PYTHON, then the usual ones); on Debian: apt-get install python3-torch.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  buildModel,
  createSession,
  type EngineName,
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

async function compare(
  engine: EngineName,
  density: number,
  batchSize: number,
  lr: number,
): Promise<{ ours: number[]; theirs: number[] }> {
  const precision = engine === 'cpu' ? 'float32' : 'float64';
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
    engine,
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
      JSON.stringify({ depth: 20, width: 16, classes: 10, lr, precision, parameters, batches }),
    );
    const output = execFileSync(python!, [peer, 'steps', folder], { encoding: 'utf8' });
    return { ours, theirs: JSON.parse(output).losses };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await session.dispose();
    loader.dispose();
  }
}

const cases = [
  { engine: 'cpu', ratio: 'dense', density: 1, batchSize: 32, lr: 1e-4, bound: 1e-4 },
  { engine: 'cpu', ratio: 'ERK 0.9', density: 0.1, batchSize: 32, lr: 1e-4, bound: 1e-4 },
  { engine: 'reference', ratio: 'dense', density: 1, batchSize: 4, lr: 0.1, bound: 1e-8 },
  { engine: 'reference', ratio: 'ERK 0.9', density: 0.1, batchSize: 4, lr: 0.1, bound: 1e-8 },
] as const;

describe.skipIf(!python)(
  'losses equal PyTorch’s step by step (skips without a python3 that has PyTorch)',
  () => {
    it.each(cases)(
      '$engine: ResNet-20 $ratio at rate $lr',
      async ({ engine, density, batchSize, lr, bound }) => {
        const { ours, theirs } = await compare(engine, density, batchSize, lr);
        expect(theirs).toHaveLength(steps);
        for (let step = 0; step < steps; step++) {
          expect(Math.abs(ours[step]! - theirs[step]!), `step ${step}`).toBeLessThanOrEqual(bound);
        }
      },
    );
  },
);

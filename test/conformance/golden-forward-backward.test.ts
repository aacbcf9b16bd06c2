/**
 * fwdbwd.json: loss and gradients of five networks as the official code computes them in float64 (SPEC 9). Also its
 * train-mode log-probabilities, through the evaluation pass: batch norm with momentum 1 leaves the batch's own
 * statistics in the running ones.
 */
import { describe, expect, test } from 'vitest';
import { buildModel } from '../../src/architectures/index.js';
import type { Session } from '../../src/engine/session.js';
import type { Graph } from '../../src/graph/types.js';
import {
  engines,
  l2,
  logProbabilities,
  relative,
  sum,
  tolerances,
  valuesFor,
  withSession,
} from '../helpers/engines.js';
import { golden, goldenLabels, goldenWeights, hashValues } from '../helpers/golden.js';

const models: Record<string, string> = {
  vgg11_c10: 'vgg11',
  vgg16_c100: 'vgg16',
  resnet18: 'resnet18',
  resnet50: 'resnet50',
  wrn50_2: 'wrn50',
};

/** The graph with running statistics that are the last batch's. */
function withMomentumOne(graph: Graph): Graph {
  return {
    ...graph,
    nodes: graph.nodes.map((node) => (node.op === 'batch_norm' ? { ...node, momentum: 1 } : node)),
  };
}

/** Running variances are unbiased; normalising takes the biased ones, (m - 1)/m of them. */
async function unbiasedToBiased(session: Session, n: number): Promise<void> {
  for (const node of session.graph.nodes) {
    if (node.op !== 'batch_norm') continue;
    const { name } = session.graph.buffers[node.runningVar]!;
    const m = n * node.shape[1] * node.shape[2];
    const variance = await session.read('running', name);
    await session.write('running', name, variance.map((v) => (v * (m - 1)) / m) as typeof variance);
  }
}

describe.each(engines)('%s', (engine) => {
  const allowed = tolerances[engine];
  // A sum over millions of elements cancels: float32 is held to a share of the absolute sum, float64 to the norm.
  const exact = engine === 'reference';

  test.each(Object.entries(models))('%s: loss, log-probabilities and gradients', async (key, model) => {
    const expected = golden('fwdbwd').nets[key];
    const { N: n, image, num_classes: classes } = expected;
    const graph = withMomentumOne(buildModel(model, { classes, imageSize: image }).graph);
    const images = valuesFor(engine, hashValues(1000, n * 3 * image * image));
    const labels = goldenLabels(n, 1, classes);

    await withSession({ graph, engine, batchSize: n }, goldenWeights(graph), async (session) => {
      const { loss } = await session.gradient(images, labels);
      expect(relative(loss, expected.loss), 'loss').toBeLessThan(allowed.loss);

      const squares = { gamma: 0, beta: 0, bias: 0 };
      const layers = [];
      for (const { name, shape, kind } of graph.params) {
        const gradient = await session.read('gradient', name);
        if (kind === 'conv' || kind === 'linear') {
          const size = l2(gradient);
          const absSum = sum(gradient.map(Math.abs));
          layers.push({
            name,
            shape,
            grad_l2: size,
            grad_sum: sum(gradient),
            sumScale: exact ? size : absSum,
          });
        } else {
          squares[kind] += l2(gradient) ** 2;
        }
      }
      expect(layers.map(({ name, shape }) => ({ name, shape }))).toEqual(
        expected.layers.map(({ name, shape }: { name: string; shape: number[] }) => ({ name, shape })),
      );
      for (const [l, { name, grad_l2, grad_sum, sumScale }] of layers.entries()) {
        const layer = expected.layers[l];
        expect(relative(grad_l2, layer.grad_l2), `${name} norm`).toBeLessThan(allowed.norm);
        expect(relative(grad_sum, layer.grad_sum, sumScale), `${name} sum`).toBeLessThan(allowed.norm);
      }
      expect(relative(Math.sqrt(squares.gamma), expected.bn_gamma_grad_l2)).toBeLessThan(allowed.norm);
      expect(relative(Math.sqrt(squares.beta), expected.bn_beta_grad_l2)).toBeLessThan(allowed.norm);
      expect(relative(Math.sqrt(squares.bias), expected.fc_bias_grad_l2)).toBeLessThan(allowed.norm);

      await unbiasedToBiased(session, n);
      const smoothed = await session.evaluate(images, labels, { labelSmoothing: 0.1 });
      expect(relative(smoothed.loss, expected.loss_label_smoothing_0p1)).toBeLessThan(allowed.loss);
      expect(relative(smoothed.nll, expected.loss)).toBeLessThan(allowed.loss);
      const sample = logProbabilities(smoothed.logits, classes)[0]!;
      for (const [c, logP] of expected.log_probs_first10_of_sample0.entries()) {
        expect(relative(sample[c]!, logP, 1), `log-probability ${c}`).toBeLessThan(allowed.norm);
      }
    });
  });
});

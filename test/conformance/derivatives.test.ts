/**
 * The reference engine against central differences, on a small graph with every op: gradients, Hessian-vector
 * products (forward-over-reverse, SPEC 2.6) and input gradients. Steps are <= 1e-7 relative to the weights where a
 * parameter moves: larger ones cross ReLU kinks.
 */
import { describe, expect, test } from 'vitest';
import type { GradientOptions, Session, Values } from '../../src/engine/session.js';
import { packValues } from '../../src/masks/mask.js';
import { l2, relative, withSession } from '../helpers/engines.js';
import { everyOpGraph, everyOpMasks, everyOpWeights } from '../helpers/every-op.js';
import { hashValues } from '../helpers/golden.js';

const graph = everyOpGraph();
const masks = everyOpMasks(graph);
const weights = everyOpWeights(graph);
const n = 6;
const images = hashValues(1, n * 3 * 81);
const labels = Int32Array.from([0, 3, 1, 4, 2, 0]);
const loss: GradientOptions = {
  labelSmoothing: 0.1,
  logitScale: 0.7,
  weight: 0.6,
  updateRunningStats: false,
};

const kept = weights.map((values, i) => packValues(values, masks[i] ?? null) as Float64Array);
const direction = kept.map((values, i) => hashValues(300 + i, values.length));

/** One flat array over all parameters: the packed gradient buffer. */
async function readFlat(session: Session, kind: 'gradient' | 'gradientTangent'): Promise<Float64Array> {
  const parts: Values[] = [];
  for (const { name } of graph.params) parts.push(await session.read(kind, name));
  return Float64Array.from(parts.flatMap((part) => [...part]));
}

async function writeAll(
  session: Session,
  kind: 'value' | 'direction',
  values: readonly Float64Array[],
): Promise<void> {
  for (const [i, { name }] of graph.params.entries()) await session.write(kind, name, values[i]!);
}

/** The weights, `step` along the direction. */
const moved = (step: number) => kept.map((values, i) => values.map((w, j) => w + step * direction[i]![j]!));

function open<T>(threads: number, body: (session: Session) => Promise<T>): Promise<T> {
  const programs = ['train', 'eval', 'inputGradient', 'tangent'] as const;
  return withSession({ graph, engine: 'reference', masks, batchSize: n, threads, programs }, weights, body);
}

describe('reference engine', () => {
  test('the gradient is the derivative of the loss by each kept weight', () =>
    open(1, async (session) => {
      await session.gradient(images, labels, loss);
      for (const [i, { name }] of graph.params.entries()) {
        const gradient = await session.read('gradient', name);
        expect(gradient.length).toBe(kept[i]!.length);
        for (let j = 0; j < gradient.length; j += 5) {
          const at = async (step: number) => {
            await session.write('value', name, kept[i]!.with(j, kept[i]![j]! + step));
            return (await session.gradient(images, labels, loss)).loss;
          };
          const difference = (0.6 * ((await at(1e-7)) - (await at(-1e-7)))) / 2e-7;
          // Rounding of the loss, some tens of 2^-53, over the step.
          expect(Math.abs(gradient[j]! - difference), `${name}[${j}]`).toBeLessThan(1e-7);
        }
        await session.write('value', name, kept[i]!);
      }
    }));

  test('the tangent is the derivative of the gradient along the direction', () =>
    open(1, async (session) => {
      await writeAll(session, 'direction', direction);
      await session.tangent(images, labels, loss);
      const product = await readFlat(session, 'gradientTangent');
      const at = async (step: number) => {
        await writeAll(session, 'value', moved(step));
        await session.gradient(images, labels, loss);
        return readFlat(session, 'gradient');
      };
      const step = 1e-7;
      const [up, down] = [await at(step), await at(-step)];
      const error = product.map((value, j) => value - (up[j]! - down[j]!) / (2 * step));
      expect(l2(product)).toBeGreaterThan(1);
      expect(l2(error) / l2(product)).toBeLessThan(1e-7);
    }));

  test('tangents accumulate, and scale with the weight', () =>
    open(1, async (session) => {
      await writeAll(session, 'direction', direction);
      await session.tangent(images, labels, loss);
      const once = await readFlat(session, 'gradientTangent');
      await session.tangent(images, labels, { ...loss, weight: 1.2, accumulate: true });
      const thrice = await readFlat(session, 'gradientTangent');
      expect(l2(thrice.map((value, j) => value - 3 * once[j]!))).toBeLessThan(1e-14 * l2(thrice));
    }));

  test('the input gradient is the derivative of the evaluated loss by each pixel', () =>
    open(1, async (session) => {
      for (const { name, numel } of graph.buffers) {
        await session.write(
          'running',
          name,
          hashValues(7, numel, 0.3).map((value) => 1 + value),
        );
      }
      const scale = [1, 2, 3];
      const { gradient, nll } = await session.inputGradient(images, labels, { inputScale: scale });
      expect(relative(nll, (await session.evaluate(images, labels)).nll)).toBeLessThan(1e-15);
      for (let i = 0; i < images.length; i += 29) {
        const at = async (step: number) =>
          (await session.evaluate(images.with(i, images[i]! + step), labels)).loss;
        const difference = ((await at(1e-6)) - (await at(-1e-6))) / 2e-6;
        const channel = Math.floor(i / 81) % 3;
        expect(Math.abs(gradient[i]! - scale[channel]! * difference), `pixel ${i}`).toBeLessThan(2e-8);
      }
    }));

  test('results do not depend on the number of threads', async () => {
    const results = await Promise.all(
      [1, 2, 3].map((threads) =>
        open(threads, async (session) => {
          await writeAll(session, 'direction', direction);
          const { loss: value } = await session.tangent(images, labels, loss);
          return [value, await readFlat(session, 'gradient'), await readFlat(session, 'gradientTangent')];
        }),
      ),
    );
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  test('the planned memory is what each program adds, in doubles', async () => {
    const memory = async (programs: ('train' | 'eval')[]) =>
      withSession({ graph, engine: 'reference', batchSize: n, programs }, weights, async (s) => s.memory);
    const [evaluate, train] = [await memory(['eval']), await memory(['train'])];
    const numel = graph.params.reduce((total, param) => total + param.numel, 0);
    const activations = graph.nodes.reduce((total, { shape: [c, h, w] }) => total + n * c * h * w, 0);
    const largest = Math.max(...graph.params.map((param) => param.numel));
    expect(train.parameters - evaluate.parameters).toBe(2 * 8 * numel); // gradient and momentum
    expect(train.activations - evaluate.activations).toBe(8 * (activations + largest)); // their gradients, scratch
  });

  test('labels and batches that do not fit are errors', () =>
    open(1, async (session) => {
      await expect(session.gradient(images, labels.with(2, 5), loss)).rejects.toThrow(/label/);
      const many = new Float64Array(7 * 243);
      await expect(session.gradient(many, new Int32Array(7), loss)).rejects.toThrow(/6/);
      await expect(session.write('value', 'fc.weight', new Float64Array(2))).rejects.toThrow(/2/);
    }));
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GraphBuilder, prunableLayers } from '../../src/graph/index.js';
import {
  countBits,
  degenerateLayers,
  isKept,
  type Mask,
  maskHash,
  packValues,
  sampleMasks,
  unpackValues,
} from '../../src/masks/index.js';
import { bernoulliBits } from '../../src/random.js';

function smallNet() {
  const g = new GraphBuilder('small', [3, 8, 8]);
  const x = g.convBnRelu(g.input, { out: 8, kernel: 3 });
  const y = g.convBnRelu(x, { out: 12, kernel: 3, stride: 2 });
  return g.build(g.linear(g.globalAvgPool(y), { out: 10, name: 'fc' }));
}
const graph = smallNet();
const layers = prunableLayers(graph);
const all = (density: number) => layers.map(() => density);
const prunedOnly = (masks: (Mask | null)[]) => layers.map(({ param }) => masks[param] ?? null);

describe('sampleMasks', () => {
  it('gives null, not a full mask, at density 1', () => {
    expect(sampleMasks({ graph, densities: all(1), seed: 1 })).toEqual(graph.params.map(() => null));
  });

  it('repeats for a seed, and differs for another', () => {
    const hash = (seed: number) => maskHash(graph, sampleMasks({ graph, densities: all(0.5), seed }));
    expect(hash(1)).toBe(hash(1));
    expect(hash(1)).not.toBe(hash(2));
  });

  it('draws a layer independently of the others', () => {
    const one = sampleMasks({ graph, densities: [0.5, 0.5, 0.5], seed: 3 });
    const other = sampleMasks({ graph, densities: [0.9, 0.5, 1], seed: 3 });
    expect(prunedOnly(other)[1]).toEqual(prunedOnly(one)[1]);
  });

  it('bernoulli keeps element i exactly where U_i < p: a larger p keeps a superset', () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.double({ min: 0, max: 1, noNaN: true }), (seed, p) => {
        const small = bernoulliBits(999, p * 0.7, { seed, purpose: 'mask' });
        const large = bernoulliBits(999, p, { seed, purpose: 'mask' });
        expect(small.ones).toBe(countBits(small.bits));
        for (let i = 0; i < small.bits.length; i++) expect(small.bits[i]! & ~large.bits[i]!).toBe(0);
      }),
    );
  });

  it('bernoulli counts lie within five standard deviations of p · n', () => {
    const n = 200_000;
    for (const p of [0.01, 0.1, 0.5, 0.98]) {
      const { ones } = bernoulliBits(n, p, { seed: 7, purpose: 'mask', index: 2 });
      expect(Math.abs(ones - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)));
    }
  });

  it('exact keeps floor(p · n + 0.5) elements', () => {
    fc.assert(
      fc.property(
        fc.nat(1000),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 }),
        (seed, densities) => {
          const masks = sampleMasks({ graph, densities, sampler: 'exact', seed });
          for (const [i, { param, numel }] of layers.entries()) {
            const expected = densities[i] === 1 ? numel : Math.floor(densities[i]! * numel + 0.5);
            expect(masks[param]?.nnz ?? numel).toBe(expected);
          }
        },
      ),
    );
  });

  it('filter removes whole output channels with their batch norm, and spares the classifier', () => {
    const masks = sampleMasks({
      graph,
      densities: all(0.5),
      granularity: 'filter',
      sampler: 'exact',
      seed: 5,
    });
    const [first, second, fc_] = prunedOnly(masks);
    for (const [mask, param] of [
      [first, layers[0]!.param],
      [second, layers[1]!.param],
    ] as const) {
      const outputs = mask!.shape[0]!;
      const per = mask!.numel / outputs;
      let kept = 0;
      const gamma =
        masks[graph.params.findIndex((p) => p.kind === 'gamma' && graph.params[param]!.node + 1 === p.node)]!;
      for (let o = 0; o < outputs; o++) {
        const states = new Set(Array.from({ length: per }, (_, i) => isKept(mask!, o * per + i)));
        expect(states.size).toBe(1);
        expect(isKept(gamma, o)).toBe(states.has(true));
        if (states.has(true)) kept++;
      }
      expect(kept).toBe(outputs / 2);
    }
    expect(fc_!.nnz).toBe(60);
    expect(masks[graph.params.findIndex(({ name }) => name === 'fc.bias')]).toBeNull();
  });

  it('block:4x2 keeps or removes all taps of 4 outputs and 2 inputs together', () => {
    const masks = sampleMasks({
      graph,
      densities: all(0.5),
      granularity: 'block:4x2',
      sampler: 'exact',
      seed: 5,
    });
    const mask = prunedOnly(masks)[1]!;
    const [outputs, inputs, kh, kw] = mask.shape as [number, number, number, number];
    for (let o = 0; o < outputs; o += 4) {
      for (let i = 0; i < inputs; i += 2) {
        const states = new Set<boolean>();
        for (let a = o; a < o + 4; a++) {
          for (let b = i; b < i + 2; b++) {
            for (let t = 0; t < kh * kw; t++) states.add(isKept(mask, (a * inputs + b) * kh * kw + t));
          }
        }
        expect(states.size).toBe(1);
      }
    }
    expect(mask.nnz).toBe(mask.numel / 2);
  });

  it('filter removes the bias of a hidden linear layer with its outputs', () => {
    const g = new GraphBuilder('mlp', [1, 4, 4]);
    const hidden = g.relu(g.linear(g.input, { out: 32, name: 'hidden' }));
    const mlp = g.build(g.linear(hidden, { out: 4, name: 'fc' }));
    const [weight, bias, head, headBias] = sampleMasks({
      graph: mlp,
      densities: [0.25, 1],
      granularity: 'filter',
      sampler: 'exact',
      seed: 1,
    });
    expect([bias!.nnz, weight!.nnz]).toEqual([8, 8 * 16]);
    for (let i = 0; i < weight!.numel; i++) expect(isKept(weight!, i)).toBe(isKept(bias!, i >> 4));
    expect([head, headBias]).toEqual([null, null]);
  });

  it('blocks that do not divide a layer are cut at its edges', () => {
    // conv2 is (12, 8, 3, 3): a 2 x 3 grid of at most 8 x 3 channels, of which floor(0.5 · 6 + 0.5) = 3 stay.
    const masks = sampleMasks({
      graph,
      densities: [1, 0.5, 1],
      granularity: 'block:8x3',
      sampler: 'exact',
      seed: 2,
    });
    const mask = prunedOnly(masks)[1]!;
    const blocks = new Map<string, Set<boolean>>();
    for (let i = 0; i < mask.numel; i++) {
      const block = `${Math.floor(i / 72 / 8)},${Math.floor((Math.floor(i / 9) % 8) / 3)}`;
      blocks.set(block, (blocks.get(block) ?? new Set()).add(isKept(mask, i)));
    }
    expect([...blocks.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1, 1, 1]);
    expect([...blocks.values()].filter((states) => states.has(true))).toHaveLength(3);
    expect(mask.nnz).toBe(countBits(mask.bits));
    // One block that covers all of it is all or nothing.
    const whole = sampleMasks({
      graph,
      densities: all(0.6),
      granularity: 'block:99x99',
      sampler: 'exact',
      seed: 2,
    });
    expect(prunedOnly(whole).map((each) => each!.nnz)).toEqual(layers.map(({ numel }) => numel));
  });

  it('refuses a granularity it does not know', () => {
    for (const granularity of ['kernel', 'block:0x4', 'block:4'] as never[]) {
      expect(() => sampleMasks({ graph, densities: all(0.5), granularity, seed: 1 })).toThrow(
        `expected weight, filter or block:OxI, got "${granularity}"`,
      );
    }
  });

  it.each([
    [[0.5, 0.5], 'expected 3 densities'],
    [[0.5, 1.5, 0.5], 'expected a density in [0, 1], got 1.5'],
    [[0.5, Number.NaN, 0.5], 'got NaN'],
  ])('refuses densities %j', (densities, message) => {
    expect(() => sampleMasks({ graph, densities, seed: 1 })).toThrow(message);
  });
});

describe('degenerateLayers', () => {
  it('reports empty layers and empty outputs, and nothing else', () => {
    expect(degenerateLayers(graph, sampleMasks({ graph, densities: all(1), seed: 1 }))).toEqual([]);
    const masks = sampleMasks({ graph, densities: [1, 0, 1], seed: 1 });
    expect(degenerateLayers(graph, masks)).toEqual([
      { name: layers[1]!.name, nnz: 0, emptyOutputs: 12, outputs: 12 },
    ]);
  });

  it('agrees with counting outputs one by one', () => {
    const masks = sampleMasks({ graph, densities: [0.03, 0.01, 0.05], seed: 11 });
    const expected = layers.flatMap(({ name, shape, numel, param }) => {
      const mask = masks[param]!;
      const per = numel / shape[0]!;
      const empty = Array.from({ length: shape[0]! }, (_, o) => o).filter(
        (o) => !Array.from({ length: per }, (_, i) => isKept(mask, o * per + i)).includes(true),
      ).length;
      return empty ? [{ name, nnz: mask.nnz, emptyOutputs: empty, outputs: shape[0] }] : [];
    });
    expect(expected.length).toBeGreaterThan(0);
    expect(degenerateLayers(graph, masks)).toEqual(expected);
  });
});

describe('packing', () => {
  it('unpack(pack(x)) is x with pruned elements 0, in both precisions', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.float({ noNaN: true })), { minLength: 1, maxLength: 70 }),
        (elements) => {
          const numel = elements.length;
          const bits = new Uint8Array(Math.ceil(numel / 8));
          for (const [i, [kept]] of elements.entries()) if (kept) bits[i >> 3]! |= 1 << (i & 7);
          const mask = { shape: [numel], numel, nnz: countBits(bits), bits };
          for (const Kind of [Float32Array, Float64Array]) {
            const values = new Kind(elements.map(([, value]) => value));
            const packed = packValues(values, mask);
            expect([...packed]).toEqual([...values].filter((_, i) => elements[i]![0]));
            expect(unpackValues(packed, mask, numel)).toEqual(
              new Kind(elements.map(([kept, value]) => (kept ? value : 0))),
            );
          }
        },
      ),
    );
  });

  it('refuses arrays of another length', () => {
    const mask = { shape: [3], numel: 3, nnz: 1, bits: Uint8Array.of(1) };
    expect(() => packValues(new Float32Array(2), mask)).toThrow('expected 3 values, got 2');
    expect(() => unpackValues(new Float32Array(2), mask, 3)).toThrow('expected 1 values, got 2');
  });
});

describe('maskHash', () => {
  it('tells a full mask’s absence from other masks, and names apart', () => {
    const masks = sampleMasks({ graph, densities: all(0.5), seed: 1 });
    const hashes = new Set([
      maskHash(graph, masks),
      maskHash(
        graph,
        masks.map(() => null),
      ),
      maskHash(smallNet(), masks.with(0, null)),
    ]);
    expect(hashes.size).toBe(3);
    expect(maskHash(smallNet(), masks)).toBe(maskHash(graph, masks));
  });
});

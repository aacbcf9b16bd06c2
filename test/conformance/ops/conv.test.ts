/** Promises that every convolution kernel keeps, on every instruction set of this machine. */
import { describe, expect, it } from 'vitest';
import { kernels } from '../../../src/engine/kernels.js';
import {
  type ConvCase,
  expectMatches,
  expectSameBits,
  makeInputs,
  outputSize,
  parseShape,
  run,
} from './conv-suite.js';

/** Shape -> why it is here. */
const shapes: Record<string, string> = {
  '16→16 3x3 s1 p1 on 8x8, n 32': 'a CIFAR layer; tiles divide the map',
  '5→7 3x3 s1 p1 on 9x11, n 20': 'nothing divides anything; remainders of columns, rows and outputs',
  '8→16 3x3 s2 p1 on 16x16, n 16': 'stride 2 on an even map: dgrad reads one row beyond dy',
  '6→8 3x3 s2 p1 on 15x13, n 17': 'stride 2 on odd sizes: phases of unequal counts',
  '7→5 3x3 s3 p1 on 11x10, n 18': 'stride 3: no unrolled columns; nine phases',
  '9→4 1x1 s1 p0 on 14x14, n 16': 'pointwise',
  '8→12 1x1 s2 p0 on 14x14, n 16': 'downsampling shortcut: three phases that no tap reaches',
  '6→5 1x1 s2 p0 on 7x7, n 16': 'the same on an odd map',
  '4→3 2x2 s3 p0 on 8x8, n 16':
    'kernel smaller than the stride: positions that no tap reaches, within phases too',
  '3→8 7x7 s2 p3 on 30x30, n 16': 'the ImageNet stem',
  '3→4 7x7 s2 p3 on 17x33, n 3': 'the stem on odd sizes; wide maps',
  '4→5 5x3 s1 p2 on 7x6, n 16': 'kernel not square, padding beyond one side',
  '3→4 3x3 s1 p0 on 6x6, n 16': 'no padding: dgrad needs a border that forward does not',
  '2→3 1x1 s1 p1 on 4x4, n 16': 'padding beyond the kernel: outputs that see only the border',
  '24→20 3x3 s1 p1 on 2x2, n 72': 'tiles across image blocks; a batch that 16 does not divide',
  '20→24 3x3 s1 p1 on 1x1, n 125': 'a single position; most taps see only the border; 13 in the last block',
  '70→10 1x1 s1 p0 on 1x1, n 128': 'a linear layer',
  '513→33 1x1 s1 p0 on 1x1, n 125': 'a wide linear layer: several channel blocks; remainders everywhere',
  '12→12 3x3 s1 p1 on 4x4, n 40': 'a late VGG layer',
  '9→9 3x3 s1 p1 on 7x7, n 16': 'a late ImageNet layer',
  '6→8 3x3 s2 p1 on 4x4, n 48': 'stride 2 into a 2x2 map',
  '6→8 3x3 s2 p1 on 2x2, n 48': 'stride 2 into a 1x1 map',
  '130→40 3x3 s1 p1 on 5x5, n 16': 'several channel blocks with partial sums between them',
  '2→2 3x3 s1 p1 on 3x40, n 1': 'one image; long rows',
  '1→1 3x3 s5 p1 on 4x3, n 16': 'a map smaller than the stride',
  '1→4 3x3 s1 p1 on 3x150, n 16': 'a map wider than any tile',
};

/** Of the masks that an op serves. */
const densities: Record<string, number | null> = { conv2d: null, masked_conv2d: 0.9, sparse_conv2d: 0.4 };

/** How an op is asked for where it is not what the mask gets by itself. */
const choices: Record<string, { choice: string }> = { masked_conv2d: { choice: 'dense' } };

/** Pairs of outputs; for the sparse kernels of wide vectors. Of strides beyond 2 tiles are one position wide. */
const inPairs = 'forward=2x2/4npt dgrad=2x2/4nt wgrad=2x2/4p';
const inNarrowPairs = inPairs.replaceAll('2x2', '4x1');

/** Dgrad with wgrad, of wide vectors. By the model the sparse kernels take such, too. */
const byOneKernel = 'forward=2x2/4npr dgrad=2x2/3nprw wgrad=2x2/4pr';

const available = kernels().filter((kernel) => kernel.available);
const names = Object.keys(shapes);

for (const kernel of kernels()) {
  const sparse = kernel.op === 'sparse_conv2d';
  const density = densities[kernel.op]!;
  const { isa } = kernel;
  const oneKernel = sparse && isa === 'avx512';
  const byModel = { isa, ...choices[kernel.op] };
  const label = `${kernel.name}${kernel.available ? '' : ' (not on this machine)'}`;

  describe.skipIf(!kernel.available)(label, () => {
    it.each(names)('integers are exact: %s', (name) => {
      const test: ConvCase = { ...parseShape(name), density };
      const inputs = makeInputs(test, true);
      const result = run(test, inputs, { ...byModel, threads: 2 });
      expect(result.kernel).toBe(kernel.name);
      expect(/dgrad=\S*w /.test(result.choice)).toBe(oneKernel);
      expectMatches(test, inputs, result, true);
      expect(result.indexBytes + result.weightsBytes + result.scratchBytes).toBeLessThanOrEqual(
        result.bytesBound,
      );
    });

    it.each(names)('reals are within the bound of a float32 sum: %s', (name) => {
      const test: ConvCase = { ...parseShape(name), density };
      const inputs = makeInputs(test, false);
      expectMatches(test, inputs, run(test, inputs, byModel), false);
    });

    it.each(names)('adds to what is there, 1 and 3 threads, wide borders: %s', (name) => {
      const test: ConvCase = { ...parseShape(name), density };
      const inputs = makeInputs(test, true, 2);
      const [outHeight, outWidth] = outputSize(test.shape);
      const filled = (count: number) => new Float32Array(count).fill(5);
      const add = {
        add: true,
        y: filled(test.n * test.shape.outChannels * outHeight * outWidth),
        dx: filled(inputs.x.length),
        dw: filled(inputs.w.length),
      };
      const one = run(test, inputs, { ...byModel, ...add });
      expectMatches(test, inputs, one, true, 5);
      expectMatches(
        test,
        inputs,
        run(test, inputs, { ...byModel, threads: 3, extraBorder: 1, ...add }),
        true,
        5,
      );
    });

    it.each(names.filter((_, i) => i % 3 === 0))(
      'threads and a replayed choice change no bit: %s',
      (name) => {
        const test: ConvCase = { ...parseShape(name), density };
        const inputs = makeInputs(test, false, 3);
        const measured = run(test, inputs, { isa, threads: 2, measure: true });
        if (kernel.op !== 'masked_conv2d') expect(measured.kernel).toBe(kernel.name);
        for (const threads of [1, 2, 5]) {
          const replayed = run(test, inputs, { isa, threads, choice: measured.choice });
          expect(replayed.choice).toBe(measured.choice);
          expectSameBits(replayed, measured);
        }
      },
    );

    // A map that fills tiles, weights few beside it.
    it.each([
      '5→7 3x3 s1 p1 on 17x19, n 40',
      '4→6 3x3 s2 p1 on 20x18, n 64',
      '4→6 3x3 s2 p1 on 19x21, n 33',
      '8→12 1x1 s2 p0 on 14x14, n 16',
      '6→5 1x1 s1 p0 on 16x16, n 150',
      '3→4 7x7 s2 p3 on 33x30, n 48',
    ])('what is made in turns gives the same bits: %s', (name) => {
      const test: ConvCase = { ...parseShape(name), density };
      const inputs = makeInputs(test, false);
      const tiles = [
        'forward=2x2/4 dgrad=2x2/4 wgrad=2x2/4',
        'forward=2x2/4npr dgrad=2x2/3npr wgrad=2x2/4pr',
        ...(oneKernel ? ['forward=2x2/4 dgrad=2x2/4w wgrad=2x2/4', byOneKernel] : []),
      ];
      for (const tile of tiles) {
        const choice = kernel.op === 'masked_conv2d' ? `dense ${tile}` : tile;
        const stored = run(test, inputs, { isa, choice });
        for (const inTurns of ['both', 'dy'] as const) {
          for (const threads of [1, 2, 3]) {
            const made = run(test, inputs, { isa, choice, threads, inTurns });
            const [outHeight, outWidth] = outputSize(test.shape);
            expect(made.joint).toBe(sparse || outHeight * outWidth >= 64);
            expectSameBits(made, stored);
          }
        }
      }
    });

    it('refuses a choice that it cannot follow', () => {
      const test: ConvCase = { ...parseShape('4→4 3x3 s1 p1 on 8x8, n 16'), density };
      const inputs = makeInputs(test, true);
      expect(() => run(test, inputs, { isa, choice: 'forward=9x9/4 dgrad=1x4/4 wgrad=1x4/4' })).toThrow(
        /9x9/,
      );
      expect(() => run(test, inputs, { isa, choice: 'forward=1x4/4 wgrad=1x4/4' })).toThrow(/dgrad/);
      const acrossBlocks = 'forward=b2x1/4r dgrad=1x4/4 wgrad=1x4/4';
      expect(() => run(test, inputs, { isa, choice: acrossBlocks })).toThrow(/b2x1/);
      const toL1Alone = 'forward=1x4/4l dgrad=1x4/4 wgrad=1x4/4';
      expect(() => run(test, inputs, { isa, choice: toL1Alone })).toThrow(/1x4\/4l/);
    });

    // More parts of the images than eight, and more threads than parts.
    it.each(['5→7 3x3 s1 p1 on 9x11, n 150', '6→8 3x3 s2 p1 on 15x13, n 150'])(
      'along rows, with the next rows fetched ahead, 1, 3 and 20 threads: %s',
      (name) => {
        const test: ConvCase = { ...parseShape(name), density };
        const inputs = makeInputs(test, true);
        const tiles = 'forward=2x2/4npr dgrad=2x2/4nplr wgrad=2x2/4plr';
        const choice = kernel.op === 'masked_conv2d' ? `dense ${tiles}` : tiles;
        for (const one of oneKernel ? [choice, byOneKernel] : [choice]) {
          for (const threads of [1, 3, 20]) {
            const result = run(test, inputs, { isa, threads, choice: one });
            expect(result.choice).toBe(one);
            expectMatches(test, inputs, result, true);
          }
        }
      },
    );
  });

  if (!sparse) continue;
  describe.skipIf(!kernel.available)(`${label}: degenerate masks`, () => {
    const cases: Record<string, Omit<ConvCase, 'shape' | 'n'>> = {
      'nothing kept': { density: 0 },
      'everything kept': { density: 1 },
      'nearly nothing kept': { density: 0.01 },
      'outputs and inputs that keep nothing': { density: 0.5, emptyOutputs: [0, 3, 6], emptyInputs: [1, 8] },
    };
    for (const [label, masked] of Object.entries(cases)) {
      it.each(['9→7 3x3 s1 p1 on 8x8, n 20', '9→7 3x3 s2 p1 on 7x7, n 16', '9→7 1x1 s1 p0 on 1x1, n 72'])(
        `${label}: %s`,
        (name) => {
          const test: ConvCase = { ...parseShape(name), ...masked };
          const inputs = makeInputs(test, true);
          expectMatches(test, inputs, run(test, inputs, { isa, threads: 2 }), true);
          expectMatches(test, inputs, run(test, inputs, { isa, measure: true }), true);
          if (isa !== 'avx512') return;
          expectMatches(test, inputs, run(test, inputs, { isa, threads: 2, choice: inPairs }), true);
        },
      );
    }
  });

  describe.skipIf(!kernel.available)(`${label}: two outputs together`, () => {
    if (isa !== 'avx512') {
      it('are refused: narrow vectors have no registers to spare', () => {
        const test: ConvCase = { ...parseShape('4→4 3x3 s1 p1 on 8x8, n 16'), density };
        expect(() => run(test, makeInputs(test, true), { isa, choice: inPairs })).toThrow(/2x2\/4npt/);
        expect(() => run(test, makeInputs(test, true), { isa, choice: byOneKernel })).toThrow(/2x2\/3nprw/);
      });
      return;
    }

    it.each(names)('integers are exact, 1 and 3 threads: %s', (name) => {
      const test: ConvCase = { ...parseShape(name), density };
      const inputs = makeInputs(test, true);
      const choice = test.shape.stride > 2 ? inNarrowPairs : inPairs;
      const one = run(test, inputs, { isa, choice });
      expect(one.choice).toMatch(/^forward=\dx\d\/\d+npt dgrad=\dx\d\/\d+nt wgrad=\dx\d\/\d+p$/);
      expectMatches(test, inputs, one, true);
      expectSameBits(run(test, inputs, { isa, threads: 3, choice }), one);
    });

    it('share what both keep: a list of fewer entries than nonzeros', () => {
      const test: ConvCase = { ...parseShape('128→128 3x3 s1 p1 on 8x8, n 16'), density: 0.5 };
      const inputs = makeInputs(test, true);
      const pairs = run(test, inputs, { isa, choice: 'forward=2x4/16t dgrad=2x4/16t wgrad=2x4/16' });
      const single = run(test, inputs, { isa, choice: 'forward=2x4/16 dgrad=2x4/16 wgrad=2x4/16' });
      expectMatches(test, inputs, pairs, true);
      // A quarter of either list, four bytes an entry; a little of it goes to the ends of more rows.
      expect(pairs.indexBytes).toBeLessThan(single.indexBytes - 1.8 * inputs.w.length);
    });
  });
}

describe('every batch size', () => {
  const best = available.filter((kernel) => kernel.isa === available[0]?.isa);
  it.each([1, 2, 15, 16, 17, 31, 33, 40])('n = %i', (n) => {
    for (const kernel of best) {
      const { shape } = parseShape('5→6 3x3 s1 p1 on 2x4, n 1');
      const test: ConvCase = { shape, n, density: densities[kernel.op]! };
      const inputs = makeInputs(test, true, n);
      expectMatches(
        test,
        inputs,
        run(test, inputs, { isa: kernel.isa, threads: 2, ...choices[kernel.op] }),
        true,
      );
    }
  });
});

describe('the dense kernels for a mask', () => {
  const test: ConvCase = { ...parseShape('12→10 3x3 s1 p1 on 6x6, n 16'), density: 0.8 };
  const choice = 'dense forward=1x2/12 dgrad=1x2/10 wgrad=1x6/1';

  it.each(available.filter((kernel) => kernel.op === 'masked_conv2d'))('$name', ({ isa, name }) => {
    const inputs = makeInputs(test, true);
    const result = run(test, inputs, { isa, choice });
    expect(result).toMatchObject({ kernel: name, choice });
    expectMatches(test, inputs, result, true);
    // The same mask by its list.
    const listed = run(test, inputs, {
      isa,
      choice: choice.replace('dense ', '').replace('1x6/1', '1x2/12'),
    });
    expect(listed.kernel).toBe(name.replace('masked', 'sparse'));
    expectSameBits(listed, result);
  });

  it('are refused for one that keeps less than 65 %', () => {
    const sparser: ConvCase = { ...test, density: 0.5 };
    const inputs = makeInputs(sparser, true);
    expect(() => run(sparser, inputs, { isa: available[0]!.isa, choice })).toThrow(/at least 65 %/);
  });

  it('know no pairs', () => {
    const inputs = makeInputs(test, true);
    expect(() =>
      run(test, inputs, { isa: available[0]!.isa, choice: choice.replace('1x2/12', '1x2/12t') }),
    ).toThrow(/1x2\/12t.*no pairs/);
  });
});

describe('memory', () => {
  it.each(available.filter((kernel) => kernel.op === 'conv2d'))(
    "$name: the bound counts the copy of the largest weight gradient tile's dy",
    ({ isa }) => {
      const test: ConvCase = { ...parseShape('8→256 1x1 s1 p0 on 16x16, n 16'), density: null };
      const inputs = makeInputs(test, true);
      const tile = (wgrad: string) => ({ isa, choice: `forward=1x4/8 dgrad=1x4/8 wgrad=${wgrad}/1` });
      const result = run(test, inputs, tile('8x8'));
      expectMatches(test, inputs, result, true);
      const copy = 256 * 64 * 64;
      expect(result.scratchBytes).toBeGreaterThanOrEqual(copy);
      expect(result.indexBytes + result.weightsBytes + result.scratchBytes).toBeLessThanOrEqual(
        result.bytesBound,
      );
      expect(() => run(test, inputs, tile('9x8'))).toThrow(/9x8/);
    },
  );

  it('a masked layer on the dense kernels takes two copies of every weight and a bit each', () => {
    const test: ConvCase = { ...parseShape('128→128 3x3 s1 p1 on 8x8, n 16'), density: 0.7 };
    const inputs = makeInputs(test, true);
    const result = run(test, inputs, { isa: available[0]!.isa, choice: 'dense' });
    const numel = 128 * 128 * 9;
    expect(result.kernel).toMatch(/^masked_conv2d/);
    expect(result.weightsBytes).toBe(8 * numel);
    expect(result.indexBytes).toBeLessThan(numel / 8 + 40000);
    // With value, gradient and momentum.
    expect(result.weightsBytes + result.indexBytes + 12 * inputs.w.length).toBeLessThan(
      28 * inputs.w.length + numel / 8,
    );
  });

  it('a sparse layer takes 16 bytes a nonzero and less than a bit a weight', () => {
    const test: ConvCase = { ...parseShape('128→128 3x3 s1 p1 on 8x8, n 16'), density: 0.1 };
    const inputs = makeInputs(test, true);
    const result = run(test, inputs, { isa: available[0]!.isa });
    expect(result.weightsBytes).toBe(4 * inputs.w.length);
    // 4 of offset and 8 of dgrad; the rest are the ends of rows.
    expect(result.indexBytes - 12 * inputs.w.length).toBeLessThan((128 * 128 * 9) / 8);
  });
});

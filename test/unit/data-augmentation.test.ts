import { describe, expect, it } from 'vitest';
import { type Augmentation, openLoader } from '../../src/data/index.js';
import { randomWords } from '../../src/random.js';
import { noiseDataset } from '../helpers/datasets.js';

/** The draws of one image's augmentation, in the order the native code takes them (native/core/philox.h). */
function draws(seed: number, epoch: number, index: number) {
  const words = randomWords(64, { seed, purpose: 'augmentation', epoch, index });
  let at = 0;
  return {
    below(n: number): number {
      const product = BigInt(words[at++]!) * BigInt(n);
      // A rejected word is rare (n / 2^32) and does not happen here.
      expect(product & 0xffffffffn).toBeGreaterThanOrEqual(BigInt(n));
      return Number(product >> 32n);
    },
    uniform(): number {
      const low = BigInt(words[at++]!);
      return Number((low | (BigInt(words[at++]!) << 32n)) >> 11n) * 2 ** -53;
    },
  };
}

const f = Math.fround;
const normalised = (byte: number, mean: number, std: number) => f(f(f(byte / 255) - f(mean)) / f(std));

/** Pad, crop, flip, normalise: as SPEC 3.2 says it, pixel by pixel. */
function cropped(
  image: Uint8Array,
  side: number,
  padding: 'reflect' | 'zero',
  [top, left, flip]: [number, number, boolean],
  mean: readonly number[],
  std: readonly number[],
): Float32Array {
  const out = new Float32Array(image.length);
  const mirror = (i: number) => (i < 0 ? -i : i >= side ? 2 * side - 2 - i : i);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const row = y + top - 4;
        const column = (flip ? side - 1 - x : x) + left - 4;
        const outside = row < 0 || row >= side || column < 0 || column >= side;
        const byte =
          outside && padding === 'zero' ? 0 : image[(c * side + mirror(row)) * side + mirror(column)]!;
        out[(c * side + y) * side + x] = normalised(byte, mean[c]!, std[c]!);
      }
    }
  }
  return out;
}

describe('crop and flip (CIFAR)', () => {
  for (const padding of ['reflect', 'zero'] as const) {
    it(`is the ${padding}-padded crop of its draws, bit by bit`, async () => {
      const dataset = noiseDataset(64, { augmentation: { kind: 'crop', pad: 4, padding } });
      const loader = openLoader(dataset, { split: 'train', batchSize: 64, augment: true, seed: 77 });
      const seen = { corners: new Set<string>(), flips: 0 };
      for (const epoch of [0, 3]) {
        const { images } = await loader.batch(epoch);
        for (let i = 0; i < 64; i++) {
          const draw = draws(77, epoch, i);
          const crop: [number, number, boolean] = [draw.below(9), draw.below(9), draw.below(2) === 1];
          const expected = cropped(dataset.train.image(i), 32, padding, crop, dataset.mean, dataset.std);
          expect(largestDifference(images.subarray(i * 3072, (i + 1) * 3072), expected)).toBe(0);
          seen.corners.add(`${crop[0]},${crop[1]}`);
          seen.flips += Number(crop[2]);
        }
      }
      expect(seen.corners.size).toBeGreaterThan(50); // of 81, in 128 draws
      expect(Math.abs(seen.flips - 64)).toBeLessThan(24); // 4 standard deviations
      loader.dispose();
    });
  }

  it('pads with black before normalisation: (0 - mean) / std', async () => {
    const dataset = noiseDataset(40, { augmentation: { kind: 'crop', pad: 4, padding: 'zero' } });
    const loader = openLoader(dataset, { split: 'train', batchSize: 40, augment: true, seed: 77 });
    const { images } = await loader.batch(0);
    const top = Array.from({ length: 40 }, (_, i) => draws(77, 0, i).below(9));
    const cut = top.indexOf(0); // crops at row 0 see four padded rows
    expect(cut).toBeGreaterThanOrEqual(0);
    for (let c = 0; c < 3; c++) {
      expect(images[cut * 3072 + c * 1024]).toBe(normalised(0, dataset.mean[c]!, dataset.std[c]!));
    }
  });

  it('only normalises without augmentation', async () => {
    const dataset = noiseDataset(3);
    const loader = openLoader(dataset, { split: 'train', batchSize: 3 });
    const { images } = await loader.batch(0);
    const expected = cropped(dataset.train.image(2), 32, 'reflect', [4, 4, false], dataset.mean, dataset.std);
    expect(largestDifference(images.subarray(2 * 3072), expected)).toBe(0);
  });
});

/** One axis of PIL's anti-aliased bilinear filter: for each output, [input, weight] pairs. */
function taps(size: number, full: number, begin: number, outputs: number): [number, number][][] {
  const scale = size / full;
  const support = Math.max(scale, 1);
  return Array.from({ length: outputs }, (_, i) => {
    const centre = (begin + i + 0.5) * scale;
    const pairs: [number, number][] = [];
    for (let k = 0; k < size; k++) {
      const weight = 1 - Math.abs(k + 0.5 - centre) / support;
      if (weight > 0) pairs.push([k, weight]);
    }
    const total = pairs.reduce((sum, [, w]) => sum + w, 0);
    return pairs.map(([k, w]) => [k, w / total]);
  });
}

interface Crop {
  top: number;
  left: number;
  height: number;
  width: number;
}

/** Resizes a crop to full, of which `side` x `side` pixels from (y, x) are wanted; double precision. */
function resized(
  image: Uint8Array,
  [height, width]: [number, number],
  crop: Crop,
  full: [number, number],
  [y, x]: [number, number],
  side: number,
  flip: boolean,
  mean: readonly number[],
  std: readonly number[],
): Float64Array {
  const rows = taps(crop.height, full[0], y, side);
  const columns = taps(crop.width, full[1], x, side);
  const out = new Float64Array(3 * side * side);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < side; i++) {
      for (let j = 0; j < side; j++) {
        let sum = 0;
        for (const [r, wr] of rows[i]!) {
          for (const [k, wk] of columns[flip ? side - 1 - j : j]!) {
            sum += wr * wk * image[(c * height + crop.top + r) * width + crop.left + k]!;
          }
        }
        out[(c * side + i) * side + j] = (sum / 255 - mean[c]!) / std[c]!;
      }
    }
  }
  return out;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
}

const roundEven = (v: number) => (v % 1 === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));

/** torchvision's RandomResizedCrop.get_params. */
function randomResizedCrop(height: number, width: number, draw: ReturnType<typeof draws>): Crop {
  for (let attempt = 0; attempt < 10; attempt++) {
    const target = height * width * (0.08 + 0.92 * draw.uniform());
    const aspect = Math.exp(Math.log(4 / 3) * (2 * draw.uniform() - 1));
    const w = roundEven(Math.sqrt(target * aspect));
    const h = roundEven(Math.sqrt(target / aspect));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    return { top: draw.below(height - h + 1), left: draw.below(width - w + 1), height: h, width: w };
  }
  const h = width / height < 3 / 4 ? roundEven(width / (3 / 4)) : height;
  const w = width / height > 4 / 3 ? roundEven(height * (4 / 3)) : width;
  return { top: (height - h) >> 1, left: (width - w) >> 1, height: h, width: w };
}

describe('random resized crop (ImageNet)', () => {
  const augmentation: Augmentation = { kind: 'resized-crop', size: 28 };
  for (const [name, shape, count] of [
    ['square images', [3, 40, 40], 24],
    ['wide images', [3, 20, 50], 24],
    ['very tall images: no try fits, the centre is taken', [3, 160, 2], 6],
  ] as [string, [number, number, number], number][]) {
    it(`resizes the box of its draws: ${name}`, async () => {
      const dataset = noiseDataset(count, { shape, augmentation, imageShape: [3, 28, 28] });
      const loader = openLoader(dataset, { split: 'train', batchSize: count, augment: true, seed: 5 });
      expect(loader.shape).toEqual([3, 28, 28]);
      const { images } = await loader.batch(2);
      const [, height, width] = shape;
      for (let i = 0; i < count; i++) {
        const draw = draws(5, 2 * loader.stepsPerEpoch, i);
        const crop = randomResizedCrop(height, width, draw);
        expect(crop.top + crop.height).toBeLessThanOrEqual(height);
        expect(crop.left + crop.width).toBeLessThanOrEqual(width);
        const flip = draw.below(2) === 1;
        const image = dataset.train.image(i);
        const { mean, std } = dataset;
        const expected = resized(image, [height, width], crop, [28, 28], [0, 0], 28, flip, mean, std);
        // Float sums of at most a few hundred terms below 256, over std 0.2.
        expect(largestDifference(images.subarray(i * 2352, (i + 1) * 2352), expected)).toBeLessThan(2e-5);
      }
    });
  }

  it('tests on the centre of the image whose shorter side is 256/224 of the crop', async () => {
    for (const shape of [
      [3, 48, 48],
      [3, 50, 70],
      [3, 61, 33],
    ] as [number, number, number][]) {
      const dataset = noiseDataset(2, { shape, augmentation, imageShape: [3, 28, 28] });
      const { images } = await openLoader(dataset, { split: 'train', batchSize: 2 }).batch(0);
      const [, height, width] = shape;
      const full: [number, number] = [
        height <= width ? 32 : Math.trunc((32 * height) / width),
        width <= height ? 32 : Math.trunc((32 * width) / height),
      ];
      const corner: [number, number] = [roundEven((full[0] - 28) / 2), roundEven((full[1] - 28) / 2)];
      const whole = { top: 0, left: 0, height, width };
      const { mean, std } = dataset;
      const expected = resized(
        dataset.train.image(1),
        [height, width],
        whole,
        full,
        corner,
        28,
        false,
        mean,
        std,
      );
      expect(largestDifference(images.subarray(2352), expected)).toBeLessThan(2e-5);
    }
  });

  it('draws areas and aspect ratios over their whole range', () => {
    const areas: number[] = [];
    const aspects: number[] = [];
    for (let i = 0; i < 4000; i++) {
      const { height, width } = randomResizedCrop(1000, 1000, draws(1, 0, i));
      areas.push((height * width) / 1e6);
      aspects.push(Math.log(width / height));
    }
    expect(Math.min(...areas)).toBeGreaterThan(0.079);
    expect(Math.min(...areas)).toBeLessThan(0.09);
    expect(Math.max(...areas)).toBeGreaterThan(0.95);
    expect(Math.max(...aspects.map(Math.abs))).toBeLessThan(Math.log(4 / 3) + 0.005);
    const mean = aspects.reduce((a, b) => a + b, 0) / aspects.length;
    expect(Math.abs(mean)).toBeLessThan(0.012); // 4 standard errors of a uniform in ±0.288
  });
});

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import type { Checkpoint } from '../../src/checkpoint/checkpoint.js';
import { tensorBytes } from '../../src/checkpoint/checkpoint.js';
import { random_pruning as pb } from '../../src/checkpoint/checkpoint.pb.js';
import { crc32 } from '../../src/checkpoint/crc32.js';
import { bytesSource, decodeCheckpoint } from '../../src/checkpoint/decode.js';
import { encodeCheckpoint } from '../../src/checkpoint/encode.js';
import { tensorCrc, toBytes } from '../../src/checkpoint/messages.js';
import { weightsSha256 } from '../../src/checkpoint/weights-hash.js';
import { CorruptError, EnvironmentError, RunError } from '../../src/errors.js';
import { encoded, maskOf, smallCheckpoint, smallGraph } from '../helpers/checkpoints.js';

const decode = (bytes: Uint8Array): Promise<Checkpoint> => decodeCheckpoint(bytesSource(bytes), 'x.rpck');

/** The file with its messages changed and sealed anew, as a faulty writer would leave it. */
function tamper(checkpoint: Checkpoint, change: (record: pb.Record, index: number) => void): Buffer {
  const hash = createHash('sha256');
  const records = [...encodeCheckpoint(checkpoint)].slice(0, -1).map((bytes, index) => {
    const record = pb.Record.decodeDelimited(bytes);
    change(record, index);
    if (record.tensor) record.tensor.crc32 = tensorCrc(record.tensor);
    const sealed = pb.Record.encodeDelimited(record).finish();
    hash.update(sealed);
    return sealed;
  });
  return Buffer.concat([
    ...records,
    pb.Record.encodeDelimited({ footer: { sha256: hash.digest() } }).finish(),
  ]);
}

describe('crc32', () => {
  it('gives the check value of the standard, in one piece or in two', () => {
    const bytes = Buffer.from('123456789');
    expect(crc32(bytes)).toBe(0xcbf43926);
    expect(crc32(bytes.subarray(5), crc32(bytes.subarray(0, 5)))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array())).toBe(0);
  });
});

describe('checkpoint file', () => {
  it.each(['float32', 'float64'] as const)('gives back all of a %s checkpoint', async (element) => {
    const checkpoint = smallCheckpoint({ element });
    expect(await decode(encoded(checkpoint))).toEqual(checkpoint);
  });

  it('gives back a checkpoint of nothing but absent parts', async () => {
    const full = smallCheckpoint({ step: 0, kept: () => false });
    const position = {
      ...full.position,
      trainLoss: null,
      epochLossSum: 0,
      epochImages: 0,
      bestTestAccuracy: 0,
    };
    const bare = { ...full, config: null, best: null, plan: '', writer: '', position };
    expect(await decode(encoded(bare))).toEqual(bare);
  });

  it('gives back the recipe of the masks', async () => {
    const maskRecipe = {
      ...{ policy: 'erk', density: 0.1, sampler: 'bernoulli', granularity: 'weight', seed: 17 },
      ...{ generator: 'philox', densities: [0.25, 0], hash: 'abc' },
    };
    const checkpoint = { ...smallCheckpoint(), maskRecipe };
    expect((await decode(encoded(checkpoint))).maskRecipe).toEqual(maskRecipe);
  });

  it('keeps every bit of any values under any mask', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { minLength: 54, maxLength: 54 }),
        fc.array(fc.float({ noDefaultInfinity: false }), { minLength: 1 }),
        fc.constantFrom('float32' as const, 'float64' as const),
        async (kept, numbers, element) => {
          const value = (i: number) => numbers[i % numbers.length]!;
          const checkpoint = smallCheckpoint({ element, value, kept: (i) => kept[i]! });
          const bytes = encoded(checkpoint);
          const decoded = await decode(bytes);
          expect(decoded).toEqual(checkpoint);
          expect(encoded(decoded).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('detects every flipped bit', async () => {
    const bytes = encoded(smallCheckpoint());
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      // A flip that turns the schema's number into a newer one reads as a newer file: refused too.
      const error = await decode(bytes).catch((thrown) => thrown);
      if (!(error instanceof CorruptError || error instanceof EnvironmentError)) {
        throw new Error(`bit ${bit} of ${8 * bytes.length}: ${error}`);
      }
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    await decode(bytes);
  });

  it('detects a file cut off after any byte, and one with a byte more', async () => {
    const bytes = encoded(smallCheckpoint());
    for (let length = 0; length < bytes.length; length++) {
      await expect(decode(bytes.subarray(0, length)), `${length} bytes`).rejects.toThrow(CorruptError);
    }
    await expect(decode(Buffer.concat([bytes, Buffer.alloc(1)]))).rejects.toThrow(
      /to end behind its footer.*1 more/,
    );
  });

  it('names file, offset, expected and got', async () => {
    const bytes = encoded(smallCheckpoint());
    await expect(decode(bytes.subarray(0, bytes.length - 1))).rejects.toThrow(
      /^x\.rpck: damaged at byte \d+: expected a record of \d+ bytes, got \d+ bytes to the end of the file\.$/,
    );
  });

  it('allocates nothing for a length that the file cannot hold', async () => {
    const claims = Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff, 0x07]), Buffer.alloc(9)]);
    const asked: number[] = [];
    const { read, size } = bytesSource(claims);
    const source = {
      size,
      read: (offset: number, length: number) => {
        asked.push(length);
        return read(offset, length);
      },
    };
    await expect(decodeCheckpoint(source, 'x.rpck')).rejects.toThrow('expected a record of 2147483647 bytes');
    expect(Math.max(...asked)).toBeLessThanOrEqual(5);
  });

  it.each<[string, (tensor: pb.Tensor) => void, RegExp]>([
    [
      'nnz that the mask does not have',
      (t) => (t.nnz = 5),
      /nnz 5 of conv\.weight to be its mask's count, got 18/,
    ],
    [
      'too few values',
      (t) => (t.values = t.values!.subarray(4)),
      /18 values of conv\.weight in 72 bytes, got 68/,
    ],
    ['no momentum', (t) => delete t.momentum, /18 momentum of conv\.weight in 72 bytes, got 0 bytes/],
    ['another shape', (t) => (t.shape = [2, 3, 9]), /conv\.weight of shape \(2, 3, 3, 3\), got \(2, 3, 9\)/],
    ['another name', (t) => (t.name = 'conv'), /expected tensor conv\.weight, got conv/],
    ['a short mask', (t) => (t.mask = t.mask!.slice(1)), /a mask of 7 bytes for conv\.weight, got 6/],
    [
      'mask bits behind the end',
      (t) => (t.mask![6]! |= 128),
      /no mask bits behind conv\.weight's last element/,
    ],
    ['no mask', (t) => delete t.mask, /nnz 54 of conv\.weight, which has no mask, got 18/],
  ])('refuses a tensor with %s', async (_, change, message) => {
    const file = tamper(
      smallCheckpoint(),
      (record, index) => index === 1 && change(record.tensor as pb.Tensor),
    );
    await expect(decode(file)).rejects.toThrow(message);
  });

  it('takes all elements of a masked tensor from another writer, and refuses a nonzero at a pruned position', async () => {
    const checkpoint = smallCheckpoint();
    const dense = new Float32Array(54);
    checkpoint.params[0]!.values.forEach((value, i) => {
      dense[3 * i] = value;
    });
    const write = () =>
      tamper(checkpoint, (record, index) => {
        if (index === 1) record.tensor!.values = toBytes(dense);
      });
    expect(await decode(write())).toEqual(checkpoint);
    dense[4] = 1e-30;
    await expect(decode(write())).rejects.toThrow(
      /zero values where conv\.weight is pruned, got a nonzero at element 4/,
    );
  });

  it('refuses a newer schema with another exit code than damage', async () => {
    const file = tamper(smallCheckpoint(), (record) => {
      if (record.header) record.header.schema = 2;
    });
    await expect(decode(file)).rejects.toThrow(EnvironmentError);
  });

  it.each<[string, (graph: pb.Graph) => void, RegExp]>([
    ['an unknown operation', (g) => (g.nodes![3]!.op = 'gelu'), /unknown operation "gelu" of node relu/],
    ['a later node as input', (g) => (g.nodes![1]!.inputs = [5]), /node conv has no valid input 0: 5/],
    [
      'a parameter that is not there',
      (g) => (g.nodes![1]!.params = [9]),
      /node conv has no valid parameter 0: 9/,
    ],
    [
      'a parameter of the wrong shape',
      (g) => (g.nodes![1]!.params = [1]),
      /\[conv2d conv\] expected w to be/,
    ],
    [
      'two equal names',
      (g) => (g.params![1]!.name = 'conv.weight'),
      /two parameters are called "conv\.weight"/,
    ],
    [
      'an endless parameter',
      (g) => (g.params![0]!.shape = [1e9, 1e9]),
      /a size in \[1, 2\^31\) for conv\.weight/,
    ],
  ])('refuses a graph with %s', async (_, change, message) => {
    const file = tamper(
      smallCheckpoint(),
      (record) => record.header && change(record.header.graph as pb.Graph),
    );
    await expect(decode(file)).rejects.toThrow(message);
  });

  it('refuses to write a message above the limit of protobuf', () => {
    expect(() => [...encodeCheckpoint(smallCheckpoint(), 150)]).toThrow(RunError);
    const [header] = encodeCheckpoint(smallCheckpoint());
    expect(() => [...encodeCheckpoint(smallCheckpoint(), header!.length)]).not.toThrow();
  });

  it('can be read with the .proto file and any protobuf library', async () => {
    const root = await protobuf.load(
      new URL('../../src/checkpoint/checkpoint.proto', import.meta.url).pathname,
    );
    const Record = root.lookupType('random_pruning.Record');
    const reader = protobuf.Reader.create(encoded(smallCheckpoint()));
    const kinds: string[] = [];
    while (reader.pos < reader.len) kinds.push(Object.keys(Record.decodeDelimited(reader).toJSON())[0]!);
    expect(kinds).toEqual(['header', ...Array(7).fill('tensor'), 'footer']);
  });

  it('takes about a tenth of a dense file at 90 % sparsity', () => {
    const graph = smallGraph();
    const wide = { ...graph.params[0]!, shape: [64, 64, 3, 3], numel: 36864 };
    const network = { ...graph, params: [wide, ...graph.params.slice(1)] };
    const { stored, dense } = tensorBytes(smallCheckpoint({ graph: network, kept: (i) => i % 10 === 0 }));
    expect(stored / dense).toBeLessThan(0.12);
    expect(stored / dense).toBeGreaterThan(0.1);
  });
});

describe('weightsSha256', () => {
  it('is the SHA-256 of names and dense little-endian float32 values, whatever stores them', () => {
    const { graph, masks, params } = smallCheckpoint();
    const hash = createHash('sha256');
    graph.params.forEach((param, i) => {
      hash.update(param.name);
      let next = 0;
      for (let element = 0; element < param.numel; element++) {
        const kept = masks[i] === null || element % 3 === 0;
        const bytes = Buffer.alloc(4);
        bytes.writeFloatLE(kept ? params[i]!.values[next++]! : 0);
        hash.update(bytes);
      }
    });
    const values = params.map((param) => param.values);
    const expected = hash.digest('hex');
    expect(weightsSha256(graph, masks, values)).toBe(expected);
    const doubles = values.map((packed) => Float64Array.from(packed));
    expect(weightsSha256(graph, masks, doubles)).toBe(expected);
  });

  it('does not tell a mask from stored zeros', () => {
    const { graph, params } = smallCheckpoint();
    const values = params.map((param) => param.values);
    const none = maskOf(graph.params[0]!.shape, () => false);
    const empty = weightsSha256(
      graph,
      [none, null, null, null, null],
      [new Float32Array(), ...values.slice(1)],
    );
    const zeros = weightsSha256(graph, [], [new Float32Array(54), ...values.slice(1)]);
    expect(empty).toBe(zeros);
  });
});

/** A network and a stream small enough that hundreds of steps take a moment: for tests of sessions, not of training. */
import { imageSet } from '../../src/data/index.js';
import { type Loader, type LoaderOptions, openLoader } from '../../src/data/loader.js';
import { createSession } from '../../src/engine/create-session.js';
import type { EngineName, Session, SessionOptions } from '../../src/engine/session.js';
import { type Graph, GraphBuilder } from '../../src/graph/index.js';
import { hashValues } from './golden.js';

/** conv.weight 3x2x3x3, bn (gamma, beta, statistics), linear 3 to 4. */
export function tinyGraph(side = 6): Graph {
  const g = new GraphBuilder('tiny', [2, side, side]);
  const x = g.convBnRelu(g.input, { out: 3, kernel: 3 });
  return g.build(g.linear(g.globalAvgPool(x), { out: 4, name: 'fc' }));
}

export const TINY_BATCH = 8;

export async function tinySession(options: Partial<SessionOptions> = {}): Promise<Session> {
  const graph = options.graph ?? tinyGraph();
  const session = await createSession({
    graph,
    // `RP_DEVICE=cpu npm test` reruns the same files on another engine (STYLE §9).
    engine: (process.env.RP_DEVICE ?? 'reference') as EngineName,
    batchSize: TINY_BATCH,
    threads: 1,
    ...options,
  });
  for (const [index, { name, kind, numel }] of graph.params.entries()) {
    const values = hashValues(index, numel, 0.5).map((value) => value + (kind === 'gamma' ? 1 : 0));
    await session.write('value', name, values);
  }
  for (const { name, numel } of graph.buffers) {
    await session.write('running', name, new Float64Array(numel).fill(name.endsWith('var') ? 1 : 0));
  }
  return session;
}

/** A batch of n images; another `seed`, another batch. */
export function tinyBatch(seed = 0, n = TINY_BATCH): { images: Float64Array; labels: Int32Array } {
  return {
    images: hashValues(50 + seed, n * 2 * 6 * 6, 1),
    labels: Int32Array.from({ length: n }, (_, i) => (i + seed) % 4),
  };
}

/** 20 images, prepared as they are. */
export function tinyLoader(options: Partial<LoaderOptions> = {}): Loader {
  const count = 20;
  const pixels = Uint8Array.from(hashValues(7, count * 2 * 6 * 6, 60), (value) =>
    Math.min(255, Math.max(0, Math.round(128 + value))),
  );
  const set = imageSet({
    shape: [2, 6, 6],
    classes: 4,
    pixels,
    labels: Int32Array.from({ length: count }, (_, i) => i % 4),
  });
  return openLoader(
    {
      name: 'tiny',
      description: 'twenty images',
      synthetic: true,
      classes: 4,
      imageShape: [2, 6, 6],
      augmentation: { kind: 'crop', pad: 1, padding: 'zero' },
      mean: [0.5, 0.5],
      std: [0.25, 0.25],
      train: set,
      test: set,
    },
    { split: 'train', batchSize: TINY_BATCH, workers: 1, ...options },
  );
}

/** Every parameter's values, in order. */
export async function allValues(session: Session): Promise<number[][]> {
  const values = await Promise.all(session.graph.params.map(({ name }) => session.read('value', name)));
  return values.map((array) => Array.from(array));
}

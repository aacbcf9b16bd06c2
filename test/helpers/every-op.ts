/** A small graph with every op, awkward sizes and a residual, and values for it, from the golden generator. */
import { type Graph, GraphBuilder } from '../../src/graph/index.js';
import type { Mask } from '../../src/masks/mask.js';
import { hashUniform, hashValues, makeMask } from './golden.js';

export function everyOpGraph(): Graph {
  const g = new GraphBuilder('every-op', [3, 9, 9]);
  let x = g.convBnRelu(g.input, { out: 4, kernel: 5, stride: 2, padding: 2 }); // 5x5
  x = g.relu(g.add(x, g.convBn(x, { out: 4, kernel: 3 })));
  x = g.maxPool(x, { kernel: 3, stride: 2, padding: 1 }); // 3x3
  const strided = g.convBn(x, { out: 6, kernel: 1, stride: 2, padding: 0 }); // 2x2
  const pooled = g.avgPool(g.conv(x, { out: 6, kernel: [1, 1] }), { kernel: 2, stride: 1 }); // 2x2
  x = g.relu(g.add(strided, pooled));
  const wide = g.relu(g.linear(x, { out: 5, name: 'wide' })); // reads C, H, W flat
  return g.build(g.add(wide, g.linear(g.globalAvgPool(x), { out: 5, bias: false, name: 'fc' })));
}

/** Random values, not special ones: gammas around 1, everything else of variance 1/4. */
export function everyOpWeights(graph: Graph): Float64Array[] {
  return graph.params.map(({ kind, numel }, i) =>
    hashValues(100 + i, numel, 0.5).map((value) => value + (kind === 'gamma' ? 1 : 0)),
  );
}

/** Masks on every other parameter, gammas and betas among them. */
export function everyOpMasks(graph: Graph): (Mask | null)[] {
  return graph.params.map(({ shape, numel }, i) => {
    const uniforms = hashUniform(200 + i, numel);
    return i % 2 === 0 ? makeMask(shape, (element) => uniforms[element]! < 0.7) : null;
  });
}

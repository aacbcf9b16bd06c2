/**
 * Two bottlenecks so wide that the cpu engine cuts the rows of what stands between their 1x1 convolutions into parts
 * (engine/cpu/layouts.h): of their inputs and, inside them, of every other tensor.
 */
import { GraphBuilder } from '../../src/graph/index.js';

export const bottleneckClasses = 5;

export function bottleneckGraph() {
  const g = new GraphBuilder('bottlenecks', [3, 4, 28]);
  const wide = 288;
  let x = g.convBnRelu(g.input, { out: wide, kernel: 3 });
  for (let block = 0; block < 2; block++) {
    x = g.scope(`block${block}`, () => {
      const narrow = g.convBnRelu(x, { out: 32, kernel: 1 });
      const y = g.convBnRelu(narrow, { out: 32, kernel: 3 });
      return g.relu(g.add(g.convBn(y, { out: wide, kernel: 1 }), x));
    });
  }
  return g.build(g.linear(g.globalAvgPool(x), { out: bottleneckClasses, name: 'fc' }));
}

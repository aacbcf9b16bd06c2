/** Small random graphs that hold every op, in any order, fused and unfused, with several consumers. */
import fc from 'fast-check';
import { type Graph, GraphBuilder } from '../../src/graph/index.js';
import type { GraphNode } from '../../src/graph/types.js';

interface Choice {
  readonly op: string;
  /** Which of the values so far; the newest half of the time. */
  readonly from: number;
  readonly size: number;
  readonly stride: number;
  readonly padded: boolean;
}

const ops = ['conv', 'conv', 'bn', 'relu', 'add', 'add', 'max', 'avg', 'residual', 'linear'];

const choice: fc.Arbitrary<Choice> = fc.record({
  op: fc.constantFrom(...ops),
  from: fc.nat(20),
  size: fc.integer({ min: 1, max: 19 }),
  stride: fc.integer({ min: 1, max: 3 }),
  padded: fc.boolean(),
});

function apply(g: GraphBuilder, nodes: GraphNode[], { op, from, size, stride, padded }: Choice): GraphNode {
  const x = nodes[from % 2 === 0 ? nodes.length - 1 : (from >> 1) % nodes.length]!;
  const [, height, width] = x.shape;
  const same = nodes.filter(({ shape }) => shape.join() === x.shape.join());
  const kernel = [1, 2, 3, 5][size % 4]!;
  const padding = padded ? Math.floor(kernel / 2) : 0;
  const fits = Math.min(height, width) + 2 * padding >= kernel;
  switch (op) {
    case 'conv':
      return fits ? g.conv(x, { out: size, kernel, stride, padding }) : g.relu(x);
    case 'bn':
      return g.batchNorm(x);
    case 'add':
      return g.add(x, same[size % same.length]!);
    case 'max':
      return fits ? g.maxPool(x, { kernel, stride, padding }) : g.add(x, x);
    case 'avg':
      return Math.min(height, width) >= kernel ? g.avgPool(x, { kernel, stride }) : g.batchNorm(x);
    case 'residual': {
      const inner = g.scope('a', () => g.convBnRelu(x, { out: size, kernel: 3 }));
      const y = g.scope('b', () => g.convBn(inner, { out: x.shape[0], kernel: 3 }));
      const short = padded ? x : g.scope('c', () => g.convBn(x, { out: x.shape[0], kernel: 1 }));
      return g.relu(stride === 1 ? g.add(y, short) : g.add(short, y));
    }
    case 'linear':
      return g.linear(x, { out: size, bias: padded });
    default:
      return g.relu(x);
  }
}

export const randomGraph: fc.Arbitrary<Graph> = fc
  .record({
    channels: fc.integer({ min: 1, max: 5 }),
    height: fc.integer({ min: 4, max: 9 }),
    width: fc.integer({ min: 4, max: 9 }),
    choices: fc.array(choice, { minLength: 1, maxLength: 7 }),
    bias: fc.boolean(),
  })
  .map(({ channels, height, width, choices, bias }) => {
    const g = new GraphBuilder('random', [channels, height, width]);
    const nodes: GraphNode[] = [g.input];
    for (const [i, one] of choices.entries()) nodes.push(g.scope(`op${i}`, () => apply(g, nodes, one)));
    // Every value is read, or the builder would refuse the graph.
    const read = new Set(
      nodes.flatMap((node) => ('input' in node ? [node.input] : 'inputs' in node ? node.inputs : [])),
    );
    const heads = nodes
      .filter(({ id }) => !read.has(id))
      .map((x) => g.linear(g.globalAvgPool(x), { out: 5, bias }));
    return g.build(heads.reduce((a, b) => g.add(a, b)));
  });

/** The builder: names, shapes, registration order, and the errors it gives while building. */
import { describe, expect, test } from 'vitest';
import { type Graph, GraphBuilder, prunableLayers, validateGraph } from '../../src/graph/index.js';

function tiny(): Graph {
  const g = new GraphBuilder('tiny', [3, 8, 8]);
  let x = g.convBnRelu(g.input, { out: 4, kernel: 3, name: 'conv' });
  x = g.scope('block', () => {
    const left = g.convBn(g.convBnRelu(x, { out: 6, kernel: 3, stride: 2 }), { out: 6, kernel: 3 });
    const right = g.scope('shortcut', () => g.convBn(x, { out: 6, kernel: 1, stride: 2, name: '0' }));
    return g.relu(g.add(left, right));
  });
  return g.build(g.linear(g.globalAvgPool(x), { out: 5, name: 'fc' }));
}

describe('building', () => {
  test('parameters and buffers register in building order, under PyTorch names', () => {
    const graph = tiny();
    expect(graph.params.map(({ name }) => name)).toEqual([
      'conv.weight',
      ...['bn.weight', 'bn.bias'],
      'block.conv1.weight',
      ...['block.bn1.weight', 'block.bn1.bias'],
      'block.conv2.weight',
      ...['block.bn2.weight', 'block.bn2.bias'],
      'block.shortcut.0.weight',
      ...['block.shortcut.1.weight', 'block.shortcut.1.bias'],
      ...['fc.weight', 'fc.bias'],
    ]);
    expect(graph.buffers.slice(0, 2)).toEqual([
      { name: 'bn.running_mean', numel: 4 },
      { name: 'bn.running_var', numel: 4 },
    ]);
    expect(graph.classes).toBe(5);
  });

  test('prunable layers are the conv and linear weights, with their multiply-accumulates', () => {
    expect(prunableLayers(tiny()).map(({ name, shape, macs, param }) => [name, shape, macs, param])).toEqual([
      ['conv.weight', [4, 3, 3, 3], 108 * 64, 0],
      ['block.conv1.weight', [6, 4, 3, 3], 216 * 16, 3],
      ['block.conv2.weight', [6, 6, 3, 3], 324 * 16, 6],
      ['block.shortcut.0.weight', [6, 4, 1, 1], 24 * 16, 9],
      ['fc.weight', [5, 6], 30, 12],
    ]);
  });

  test('unnamed nodes take the next free name of their kind, inside their scope', () => {
    const g = new GraphBuilder('names', [1, 4, 4]);
    g.conv(g.input, { out: 1, kernel: 1, name: 'conv1' });
    const second = g.conv(g.input, { out: 1, kernel: 1 });
    const scoped = g.scope('a', () => g.scope('b', () => g.conv(g.input, { out: 1, kernel: 1 })));
    expect([second.name, scoped.name]).toEqual(['conv2', 'a.b.conv1']);
  });

  test('a batch norm takes the name that goes with its convolution', () => {
    const g = new GraphBuilder('names', [1, 4, 4]);
    const bn = (name: string) => g.convBn(g.input, { out: 1, kernel: 1, name }).name;
    expect(['conv', 'conv7', 'down.0', '12', 'stem', 'layer1.conv2', 'preconv'].map(bn)).toEqual([
      ...['bn', 'bn7', 'down.1', '13', 'stem.bn', 'layer1.bn2', 'preconv.bn'],
    ]);
    expect(g.convBn(g.input, { out: 1, kernel: 1, name: 'x', bn: 'norm' }).name).toBe('norm');
  });

  test('windows round down, and a linear layer reads its input flat', () => {
    const g = new GraphBuilder('shapes', [2, 7, 9]);
    const pooled = g.maxPool(g.input, { kernel: 3, stride: 2, padding: 1 });
    expect(pooled.shape).toEqual([2, 4, 5]);
    expect(g.avgPool(pooled, { kernel: 2 }).shape).toEqual([2, 2, 2]);
    expect(g.conv(g.input, { out: 3, kernel: [3, 1], padding: 0 }).shape).toEqual([3, 5, 9]);
    expect(g.linear(pooled, { out: 6, bias: false }).shape).toEqual([6, 1, 1]);
  });
});

describe('errors while building', () => {
  const g = () => new GraphBuilder('net', [3, 8, 8]);
  const cases: [string, (g: GraphBuilder) => unknown, RegExp][] = [
    [
      'a shape change without a projection',
      (b) => b.add(b.input, b.conv(b.input, { out: 4, kernel: 1 })),
      /\[add add1\] expected two inputs of equal shape, got \(3, 8, 8\) and \(4, 8, 8\)\. .*projection/,
    ],
    [
      'a window larger than its input',
      (b) => b.avgPool(b.input, { kernel: 9 }),
      /\[avg_pool avgpool1\] expected x to hold a 9x9 window, got x \(3, 8, 8\) with padding 0/,
    ],
    [
      'an even kernel without padding',
      (b) => b.conv(b.input, { out: 4, kernel: 2 }),
      /\[conv2d conv1\].*`padding`/,
    ],
    [
      'a fractional stride',
      (b) => b.conv(b.input, { out: 4, kernel: 1, stride: 1.5 }),
      /expected stride to be a whole number >= 1, got 1\.5/,
    ],
    [
      'no output channels',
      (b) => b.conv(b.input, { out: 0, kernel: 1 }),
      /expected `out` to be a whole number >= 1, got 0/,
    ],
    [
      'more padding than half a pooling window',
      (b) => b.maxPool(b.input, { kernel: 2, padding: 2 }),
      /at most half of kernel 2/,
    ],
    [
      'a name taken twice',
      (b) => b.relu(b.relu(b.input, { name: 'a' }), { name: 'a' }),
      /two nodes are called "a"/,
    ],
    [
      'a node of another builder',
      (b) => b.relu(g().input),
      /\[relu relu1\] got "input", a node of another builder/,
    ],
    [
      'a branch that leads nowhere',
      (b) => {
        b.relu(b.input);
        return b.build(b.linear(b.input, { out: 2 }));
      },
      /\[relu relu1\] leads nowhere/,
    ],
    [
      'nodes after the logits',
      (b) => {
        const logits = b.linear(b.input, { out: 2 });
        b.relu(logits);
        return b.build(logits);
      },
      /relu1 was built after the logits \(linear1\)/,
    ],
    [
      'an output that is a map',
      (b) => b.build(b.conv(b.input, { out: 2, kernel: 1 })),
      /expected the last node to give logits \(2, 1, 1\), got conv1 \(2, 8, 8\)\. End with globalAvgPool and linear/,
    ],
    ['a network without weights', (b) => b.build(b.globalAvgPool(b.input)), /has no weights/],
  ];
  test.each(cases)('%s', (_, build, message) => {
    expect(() => build(g())).toThrow(message);
  });
  test('an image without pixels', () => {
    expect(() => new GraphBuilder('net', [3, 0, 8])).toThrow(/expected an image shape .* got \(3, 0, 8\)/);
  });
});

describe('graphs changed by hand', () => {
  const changed = (change: (graph: { -readonly [K in keyof Graph]: unknown[] & Graph[K] }) => void) => {
    const graph = structuredClone(tiny());
    change(graph as never);
    return () => validateGraph(graph);
  };
  const set = (target: unknown, patch: object) => Object.assign(target as object, patch);
  const nodeOf = (graph: Graph, name: string) => graph.nodes.find((node) => node.name === name);

  test('an untouched copy is valid', () => {
    expect(changed(() => {})).not.toThrow();
  });
  test.each<[string, (graph: Graph) => void, RegExp]>([
    [
      'a wrong shape',
      (g) => set(nodeOf(g, 'block.conv1'), { shape: [6, 8, 8] }),
      /expected shape \(6, 4, 4\), got \(6, 8, 8\)/,
    ],
    [
      'channels that differ',
      (g) => set(g.params[3], { shape: [6, 5, 3, 3], numel: 270 }),
      /\[conv2d block\.conv1\] expected x to have 5 channels for w \(6, 5, 3, 3\), got x \(4, 8, 8\)/,
    ],
    [
      'an order that is not topological',
      (g) => set(g.nodes[1], { input: 4 }),
      /reads node 4; nodes stand in topological order/,
    ],
    [
      'a shared parameter',
      (g) => set(nodeOf(g, 'block.bn1'), { beta: 4 }),
      /\[batch_norm block\.bn1\] shares parameter block\.bn1\.weight/,
    ],
    [
      'a prunable bias',
      (g) => set(g.params.at(-1), { prunable: true }),
      /fc\.bias of kind bias, got bias, prunable/,
    ],
    [
      'a parameter that nobody uses',
      (g) => (g.params as unknown[]).push({ ...g.params[0], name: 'extra' }),
      /no node uses extra/,
    ],
    [
      'a parameter that does not exist',
      (g) => set(g.nodes[1], { weight: 99 }),
      /refers to parameter 99, which does not exist/,
    ],
    [
      'two parameters of one name',
      (g) => set(g.params[3], { name: 'conv.weight' }),
      /two parameters are called "conv\.weight"/,
    ],
    [
      'a wrong number of elements',
      (g) => set(g.params[0], { numel: 7 }),
      /conv\.weight: 7 elements in shape \(4, 3, 3, 3\)/,
    ],
    [
      'another owner',
      (g) => set(g.params[0], { node: 5 }),
      /uses parameter conv\.weight, which names node 5/,
    ],
    [
      'a short buffer',
      (g) => set(g.buffers[0], { numel: 3 }),
      /expected buffer 0 to be its own, of 4 elements/,
    ],
    ['an id out of place', (g) => set(g.nodes[2], { id: 7 }), /stands at 2, but its id is 7/],
    [
      'other classes',
      (g) => set(g, { classes: 4 }),
      /expected the last node to give logits \(4, 1, 1\), got fc \(5, 1, 1\)/,
    ],
    [
      'a second input',
      (g) => set(g.nodes[3], { op: 'input' }),
      /expected node 0, and no other, to be the input/,
    ],
  ])('%s is refused', (_, change, message) => {
    expect(changed(change as never)).toThrow(message);
  });
});

/** Every architecture against SPEC 1.5 and the official code's own counts and layer lists (test/fixtures/golden). */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { buildModel, modelNames } from '../../src/architectures/index.js';
import { type Graph, prunableLayers } from '../../src/graph/index.js';

const golden = new URL('../fixtures/golden/', import.meta.url);
const read = (file: string) => JSON.parse(readFileSync(new URL(file, golden), 'utf8'));

/** `resnet20_w16_c10`, `vgg11_c100`, `resnet18`, `wrn50_2` → our name and classes. */
function fromGolden(key: string) {
  const [, net, width, classes] = /^(wrn50_2|[a-z]+\d+)(?:_w(\d+))?(?:_c(\d+))?$/.exec(key)!;
  const name = width ? `${net}-${width}` : net!;
  return buildModel(name, classes ? { classes: Number(classes) } : {});
}

function counts(graph: Graph) {
  const sum = (keep: (kind: string) => boolean) =>
    graph.params.reduce((total, { kind, numel }) => total + (keep(kind) ? numel : 0), 0);
  return {
    params_total: sum(() => true),
    params_prunable: prunableLayers(graph).reduce((total, { numel }) => total + numel, 0),
    params_bn_affine: sum((kind) => kind === 'gamma' || kind === 'beta'),
    params_fc_bias: sum((kind) => kind === 'bias'),
    macs_dense: prunableLayers(graph).reduce((total, { macs }) => total + macs, 0),
  };
}

describe('dense counts equal the official code', () => {
  test.each(Object.entries(read('dense_summary.json')))('%s', (key, expected) => {
    expect(counts(fromGolden(key).graph)).toEqual(expected);
  });

  // SPEC 1.5 by name: params, prunable, BN, bias, MACs.
  test.each([
    ['resnet20-8', 10, 68_786, 67_992, 784, 10_314_048],
    ['resnet20', 10, 272_474, 270_896, 1_568, 40_813_184],
    ['resnet110', 100, 1_736_564, 1_728_176, 8_288, 253_155_584],
    ['vgg19', 100, 20_081_188, 20_070_080, 11_008, 398_182_400],
    ['resnet101', 1000, 44_549_160, 44_442_816, 105_344, 7_801_405_440],
    ['wrn50', 1000, 68_883_240, 68_814_016, 68_224, 11_398_021_120],
  ])('%s with %i classes', (name, classes, total, prunable, bn, macs) => {
    expect(counts(buildModel(name, { classes }).graph)).toEqual({
      params_total: total,
      params_prunable: prunable,
      params_bn_affine: bn,
      params_fc_bias: classes,
      macs_dense: macs,
    });
  });
});

describe('prunable layers equal the official registration order', () => {
  test.each(readdirSync(golden).filter((file) => file.startsWith('density_')))('%s', (file) => {
    const { arch, layers } = read(file);
    const { graph } = fromGolden(arch);
    const ours = prunableLayers(graph).map(({ name, shape, numel, macs, param }) => {
      const [, height, width] = graph.nodes[graph.params[param]!.node]!.shape;
      return { name, shape, numel, macs, out_hw: shape.length === 4 ? [height, width] : null };
    });
    expect(ours).toEqual(layers);
  });

  test.each([
    ['resnet20', 22],
    ['resnet56', 58],
    ['resnet110', 112],
    ['resnet18', 21],
    ['resnet34', 37],
    ['resnet50', 54],
    ['resnet101', 105],
    ['wrn50', 54],
  ] as const)('%s has %i of them', (name, count) => {
    expect(prunableLayers(buildModel(name).graph)).toHaveLength(count);
  });

  test('batch norm is named as in PyTorch', () => {
    const bn = (name: string) =>
      buildModel(name).graph.params.flatMap((param) =>
        param.kind === 'gamma' ? [param.name.replace(/\.weight$/, '')] : [],
      );
    expect(bn('resnet20').filter((name) => /^bn$|blocks\.3\./.test(name))).toEqual([
      ...['bn', 'blocks.3.bn1', 'blocks.3.bn2', 'blocks.3.shortcut.1'],
    ]);
    expect(bn('resnet50').slice(0, 5)).toEqual([
      ...['bn1', 'layer1.0.bn1', 'layer1.0.bn2', 'layer1.0.bn3', 'layer1.0.downsample.1'],
    ]);
    expect(bn('vgg11').slice(0, 3)).toEqual(['feature.1', 'feature.5', 'feature.9']);
  });
});

describe('names', () => {
  test.each(modelNames())(
    '$name keeps what its file promises',
    ({ name, params, macs, aliases, classes, input, dataset }) => {
      for (const each of [name, ...aliases]) {
        const model = buildModel(each);
        expect(model).toMatchObject({ name: each, params, macs, dataset });
        expect(model.graph).toMatchObject({ classes, input });
      }
    },
  );

  test('bare resnet18, 34, 50, 101 are ImageNet, every other depth is CIFAR, a width always is', () => {
    const dataset = (name: string) => buildModel(name).dataset;
    expect(['resnet18', 'resnet34', 'resnet50', 'resnet101'].map(dataset)).toEqual(Array(4).fill('imagenet'));
    expect(['resnet8', 'resnet20', 'resnet26', 'resnet50-16', 'resnet20-24', 'vgg16'].map(dataset)).toEqual(
      Array(6).fill('cifar10'),
    );
    expect(buildModel('resnet26').graph).toEqual({ ...buildModel('resnet26-16').graph, name: 'resnet26' });
  });

  test('recipes and initialisations follow the family', () => {
    const of = (name: string) => [buildModel(name).recipe, buildModel(name).initialisation];
    expect([of('resnet20'), of('vgg11'), of('wrn50')]).toEqual([
      ['cifar', 'cifar-resnet'],
      ['cifar', 'vgg'],
      ['imagenet', 'imagenet'],
    ]);
  });

  test('unknown names are errors that say what is known', () => {
    expect(() => buildModel('restnet20')).toThrow(
      /--arch: unknown network "restnet20"\. Known: .*resnetD-W.* Did you mean "resnet20"\?/,
    );
    expect(() => buildModel('resnet21')).toThrow(/depth 6n \+ 2 .* got "resnet21"/);
    expect(() => buildModel('resnet18-16')).toThrow(/depth 6n \+ 2/);
    expect(() => buildModel('resnet2')).toThrow(/depth 6n \+ 2/);
    expect(() => buildModel('resnet20-0')).toThrow(/width >= 1/);
  });

  test('classes and image size can be set', () => {
    const { graph } = buildModel('wrn50', { classes: 7, imageSize: 64 });
    expect(graph).toMatchObject({ input: [3, 64, 64], classes: 7 });
    expect(graph.nodes.at(-2)).toMatchObject({ op: 'global_avg_pool', shape: [2048, 1, 1] });
    expect(graph.nodes.at(-3)).toMatchObject({ shape: [2048, 2, 2] });
    expect(buildModel('resnet20', { imageSize: 16 }).graph.nodes.at(-3)!.shape).toEqual([64, 4, 4]);
    expect(() => buildModel('resnet20', { classes: 1 })).toThrow(
      /--classes: expected a whole number >= 2, got 1/,
    );
    expect(() => buildModel('vgg11', { imageSize: 8 })).toThrow(/\[max_pool feature|\[avg_pool/);
  });
});

/**
 * Residual networks: He et al. 2016, "Deep residual learning", in its CIFAR form (section 4.2) and its ImageNet form
 * (table 1), and wide bottlenecks (Zagoruyko & Komodakis 2016). Names and registration order are PyTorch's: the
 * official code's for CIFAR, torchvision's for ImageNet (SPEC 1.2, 1.4).
 *
 * Differs from He et al.: the CIFAR form has projection shortcuts (option B), as the paper's code has
 * (docs/decisions/0012-option-b-shortcuts.md).
 */
import { type Graph, GraphBuilder, type GraphNode } from '../graph/index.js';
import type { CifarResNetSpec, Head, ResNetSpec } from './spec.js';

/** The identity, or a 1x1 projection with batch norm where the shape changes; the modules are `name.0`, `name.1`. */
function shortcut(g: GraphBuilder, x: GraphNode, out: number, stride: number, name: string): GraphNode {
  if (stride === 1 && x.shape[0] === out) return x;
  return g.scope(name, () => g.convBn(x, { out, kernel: 1, stride, name: '0' }));
}

/** Fig. 5 left: two 3x3 convolutions. The projection registers last, as in PyTorch. */
function basic(g: GraphBuilder, x: GraphNode, planes: number, stride: number, projection: string): GraphNode {
  const first = g.convBnRelu(x, { out: planes, kernel: 3, stride });
  const second = g.convBn(first, { out: planes, kernel: 3 });
  return g.relu(g.add(second, shortcut(g, x, planes, stride, projection)));
}

/** Fig. 5 right. The stride sits on the 3x3 ("v1.5"), as in the paper's code. */
function bottleneck(g: GraphBuilder, x: GraphNode, planes: number, width: number, stride: number): GraphNode {
  const reduced = g.convBnRelu(x, { out: width, kernel: 1 });
  const spatial = g.convBnRelu(reduced, { out: width, kernel: 3, stride });
  const expanded = g.convBn(spatial, { out: 4 * planes, kernel: 1 });
  return g.relu(g.add(expanded, shortcut(g, x, 4 * planes, stride, 'downsample')));
}

export function buildCifarResNet({ depth, width }: CifarResNetSpec, head: Head): Graph {
  const g = new GraphBuilder(head.name, head.input);
  let x = g.convBnRelu(g.input, { out: width, kernel: 3, name: 'conv' });
  const blocks = (depth - 2) / 6;
  for (let segment = 0; segment < 3; segment++) {
    for (let block = 0; block < blocks; block++) {
      const stride = segment > 0 && block === 0 ? 2 : 1;
      const planes = width * 2 ** segment;
      x = g.scope(`blocks.${segment * blocks + block}`, () => basic(g, x, planes, stride, 'shortcut'));
    }
  }
  return g.build(g.linear(g.globalAvgPool(x), { out: head.classes, name: 'fc' }));
}

export function buildResNet({ block, depths, bottleneckWidth = 1 }: ResNetSpec, head: Head): Graph {
  const g = new GraphBuilder(head.name, head.input);
  let x = g.convBnRelu(g.input, { out: 64, kernel: 7, stride: 2, name: 'conv1' });
  x = g.maxPool(x, { kernel: 3, stride: 2, padding: 1 });
  for (const [stage, count] of depths.entries()) {
    const planes = 64 * 2 ** stage;
    for (let index = 0; index < count; index++) {
      const stride = stage > 0 && index === 0 ? 2 : 1;
      x = g.scope(`layer${stage + 1}.${index}`, () =>
        block === 'basic'
          ? basic(g, x, planes, stride, 'downsample')
          : bottleneck(g, x, planes, planes * bottleneckWidth, stride),
      );
    }
  }
  return g.build(g.linear(g.globalAvgPool(x), { out: head.classes, name: 'fc' }));
}

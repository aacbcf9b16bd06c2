/**
 * VGG with batch norm for 32x32 images (Simonyan & Zisserman 2015, adapted as in the paper's code; SPEC 1.3): four
 * max-pools, so that the last group works on 2x2 maps, a 2x2 average pool, and one linear layer. `feature.<i>` counts
 * convolution, batch norm, ReLU and pool in one sequence.
 */
import { type Graph, GraphBuilder } from '../graph/index.js';
import type { Head, VggSpec } from './spec.js';

export function buildVgg({ layers }: VggSpec, head: Head): Graph {
  const g = new GraphBuilder(head.name, head.input);
  let x = g.input;
  let position = 0;
  for (const layer of layers) {
    if (layer === 'M') {
      x = g.maxPool(x, { kernel: 2, name: `feature.${position}` });
      position += 1;
    } else {
      x = g.convBn(x, { out: layer, kernel: 3, name: `feature.${position}` });
      x = g.relu(x, { name: `feature.${position + 2}` });
      position += 3;
    }
  }
  return g.build(g.linear(g.avgPool(x, { kernel: 2 }), { out: head.classes, name: 'classifier' }));
}

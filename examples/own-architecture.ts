/** A network of one's own: build the graph, and train it like any other. Shape errors show while building. */
import {
  experimentConfig,
  type Graph,
  GraphBuilder,
  type Model,
  macCount,
  paramCount,
  runExperiment,
} from 'random-pruning';

/** Three convolutions, two of them halving the image, and one residual connection. */
function threeLayers(classes: number): Graph {
  const g = new GraphBuilder('three-layers', [3, 32, 32]);
  const wide = g.convBnRelu(g.input, { out: 16, kernel: 3, stride: 2 });
  const deep = g.convBn(wide, { out: 16, kernel: 3 });
  const down = g.convBnRelu(g.relu(g.add(deep, wide)), { out: 32, kernel: 3, stride: 2 });
  return g.build(g.linear(g.globalAvgPool(down), { out: classes, name: 'fc' }));
}

const graph = threeLayers(10);
export const model: Model = {
  name: graph.name,
  graph,
  dataset: 'cifar10',
  recipe: 'cifar',
  initialisation: 'cifar-resnet',
  params: paramCount(graph),
  macs: macCount(graph),
};

// A name of one's own has no recipe, so `preset` says which.
const config = experimentConfig({
  ...{ arch: model.name, preset: 'cifar', ratio: 'uniform', sparsity: 0.5 },
  ...{ data: 'synthetic', maxSteps: 40, batchSize: 32, threads: 1 },
});
export const result = await runExperiment(config, { model, record: false });
console.log(`${model.name}: ${model.params} parameters, test loss ${result.final.test_loss}`);

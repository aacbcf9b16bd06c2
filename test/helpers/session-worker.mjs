// A thread (or a process) with a session of its own, for test/integration/environments.test.ts. Plain JavaScript on
// the addon itself: worker_threads do not go through vitest's TypeScript.
//
// Data: {addon, engine, model, config, weights, images, labels, steps, then}; then: 'finish' posts the weights, 'dispose'
// as well after disposing, 'hang' keeps stepping, 'exit' leaves with code 7 while a step runs.
import { createRequire } from 'node:module';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';

const data = isMainThread ? JSON.parse(process.argv[2]) : workerData;
const { NativeSession } = createRequire(import.meta.url)(data.addon).session;
const Values = data.engine === 'reference' ? Float64Array : Float32Array;
const sgd = { lr: 0.1, momentum: 0.9, nesterov: false, labelSmoothing: 0, logitScale: 1 };

const config = { ...data.config, plan: null };
const model = {
  ...data.model,
  params: data.model.params.map((param) => ({ ...param, bits: null })),
};
const session = new NativeSession(data.engine, model, config);
await session.open(new Int32Array(1));
await Promise.all(data.weights.map((values, i) => session.write(0, i, Values.from(values))));
const step = () => session.step(Float64Array.from(data.images), Int32Array.from(data.labels), sgd);
for (let i = 0; i < data.steps; i++) await step();

if (data.then === 'hang' || data.then === 'exit') {
  const again = () => void step().then(again);
  // Several in the queue, one running, at every moment.
  for (let i = 0; i < 4; i++) again();
  if (data.then === 'exit') setTimeout(() => process.exit(7), 30);
  else parentPort.postMessage('stepping');
} else {
  const weights = await Promise.all(data.weights.map((_, i) => session.read(0, i)));
  if (data.then === 'dispose') await session.dispose();
  parentPort.postMessage(weights.map((values) => Array.from(values)));
}

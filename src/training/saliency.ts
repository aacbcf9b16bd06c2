/**
 * Saliencies for the data-dependent ratio policies: SNIP's |w·g| (SPEC 2.5) and GraSP's -w·Hg (SPEC 2.6), measured
 * through a session that holds the dense network. Train-mode batch norm, plain cross-entropy, running statistics
 * untouched. What a score is worth (thresholds, densities) is decided in src/ratios.
 *
 * A set of images larger than the session's batch is processed in consecutive chunks, each with batch statistics of
 * its own (docs/decisions/0020-saliency-in-chunks.md); their gradients are weighted to keep the mean over the set.
 */
import type { Batch, Session, Values } from '../engine/session.js';
import { UsageError } from '../errors.js';
import type { ParamSpec } from '../graph/types.js';

/** The part of a data loader (src/data) that collecting needs: one epoch, one micro-batch a step. */
export interface ImageLoader {
  readonly stepsPerEpoch: number;
  batch(step: number, micro: number): Promise<{ images: Float32Array; labels: Int32Array }>;
}

/** One set of images as it was processed. */
export interface MeasuredSet {
  readonly images: number;
  /** Images of each chunk: groups of batch-norm statistics. */
  readonly chunks: readonly number[];
  /** Mean loss over the images, at the logit scale of the criterion. */
  readonly loss: number;
}

export interface Saliency {
  /** One array a prunable layer, in registration order and the layer's row-major order. */
  readonly scores: readonly Values[];
  /** SNIP: the batch. GraSP: the halves. */
  readonly sets: readonly MeasuredSet[];
}

export interface ChunkOptions {
  /** Most images a chunk may have: the session's batch size. Default: all, one chunk. */
  readonly chunk?: number | undefined;
}

export interface GraspOptions extends ChunkOptions {
  /** T of softmax(logits / T); default 200. */
  readonly temperature?: number;
}

const GRASP_TEMPERATURE = 200;

/**
 * SNIP scores |w·∂L/∂w| of every prunable weight on one batch (Lee et al. 2019; SPEC 2.5).
 * @param session holds the dense network; program 'train'. Its gradient buffer is overwritten.
 */
export async function measureSnip(
  session: Session,
  batch: Batch,
  options: ChunkOptions = {},
): Promise<Saliency> {
  const sets = await accumulate(session, [batch], 'gradient', { ...options, logitScale: 1 });
  const scores = await scoreLayers(session, 'gradient', (w, g) => Math.abs(w * g));
  return { scores, sets };
}

/**
 * GraSP scores -w·Hg of every prunable weight (Wang et al. 2020; SPEC 2.6): g = Σ ∇L_i and Hg = Σ H_i g over the
 * halves, restricted to prunable weights, by an exact Hessian-vector product. The largest scores are to be removed.
 * @param session holds the dense network; programs 'train' and 'tangent'. Gradient, direction and gradient tangent
 *   are overwritten, and hold g, g and Hg afterwards.
 */
export async function measureGrasp(
  session: Session,
  halves: readonly Batch[],
  options: GraspOptions = {},
): Promise<Saliency> {
  const pass = { chunk: options.chunk, logitScale: 1 / (options.temperature ?? GRASP_TEMPERATURE) };
  await accumulate(session, halves, 'gradient', pass);
  for (const param of session.graph.params) {
    const direction = await session.read('gradient', param.name);
    await session.write('direction', param.name, param.prunable ? direction : direction.fill(0));
  }
  const sets = await accumulate(session, halves, 'tangent', pass);
  const scores = await scoreLayers(session, 'gradientTangent', (w, hg) => -w * hg);
  return { scores, sets };
}

/** Sums the gradients of each set's mean loss (with their tangents) over the sets. */
async function accumulate(
  session: Session,
  sets: readonly Batch[],
  pass: 'gradient' | 'tangent',
  { chunk, logitScale }: { chunk?: number | undefined; logitScale: number },
): Promise<MeasuredSet[]> {
  const measured: MeasuredSet[] = [];
  let first = true;
  for (const set of sets) {
    const images = set.labels.length;
    const chunks = splitBatch(set, chunk === undefined ? 1 : Math.ceil(images / chunk));
    let loss = 0;
    for (const { images: pixels, labels } of chunks) {
      const weight = labels.length / images;
      const options = { weight, logitScale, accumulate: !first, updateRunningStats: false };
      const result = await session[pass](pixels, labels, options);
      loss += weight * result.loss;
      first = false;
    }
    measured.push({ images, chunks: chunks.map(({ labels }) => labels.length), loss });
  }
  return measured;
}

async function scoreLayers(
  session: Session,
  kind: 'gradient' | 'gradientTangent',
  score: (w: number, derivative: number) => number,
): Promise<Values[]> {
  const scores: Values[] = [];
  for (const { name, numel } of session.graph.params.filter((param: ParamSpec) => param.prunable)) {
    const values = await session.read('value', name);
    const derivatives = await session.read(kind, name);
    if (values.length !== numel) {
      throw new UsageError(
        `${name}: saliency is measured on the dense network, got a mask of ${values.length} weights.`,
      );
    }
    for (let i = 0; i < values.length; i++) values[i] = score(values[i]!, derivatives[i]!);
    scores.push(values);
  }
  return scores;
}

/** Consecutive parts of a batch, as even as can be; views, not copies. Parts 2: GraSP's halves, the first the smaller. */
export function splitBatch(batch: Batch, parts: number): Batch[] {
  const n = batch.labels.length;
  const pixels = batch.images.length / n;
  return Array.from({ length: parts }, (_, part) => {
    const from = Math.floor((n * part) / parts);
    const to = Math.floor((n * (part + 1)) / parts);
    return {
      images: batch.images.subarray(from * pixels, to * pixels),
      labels: batch.labels.subarray(from, to),
    };
  });
}

/**
 * GraSP's images of each class where none is asked for: the paper's code's 25 for 10 classes; 10 for up to 100
 * classes (the GraSP repository's CIFAR-100 total) and 1 beyond, both ours: about 1000 images at most.
 */
export function defaultSamplesPerClass(classes: number): number {
  if (classes <= 10) return 25;
  return classes <= 100 ? 10 : 1;
}

/**
 * The first `samplesPerClass` images of each class in the loader's order, concatenated class by class (SPEC 2.6, 1).
 * Reads no further than it needs, and one epoch at most.
 * @throws {UsageError} when an epoch holds too few images of a class.
 */
export async function collectPerClass(
  loader: ImageLoader,
  classes: number,
  samplesPerClass: number,
): Promise<Batch> {
  let images = new Float32Array(0);
  const labels = new Int32Array(classes * samplesPerClass);
  const found = new Int32Array(classes);
  let missing = labels.length;
  for (let step = 0; step < loader.stepsPerEpoch && missing > 0; step++) {
    const batch = await loader.batch(step, 0);
    const pixels = batch.images.length / batch.labels.length;
    if (step === 0) images = new Float32Array(labels.length * pixels);
    batch.labels.forEach((label, i) => {
      const count = found[label]!;
      if (count >= samplesPerClass) return;
      const at = label * samplesPerClass + count;
      images.set(batch.images.subarray(i * pixels, (i + 1) * pixels), at * pixels);
      labels[at] = label;
      found[label] = count + 1;
      missing--;
    });
  }
  if (missing > 0) {
    const label = found.findIndex((count) => count < samplesPerClass);
    throw new UsageError(
      `--samples-per-class: expected ${samplesPerClass} images of each class in the training images, got ${found[label]} of class ${label}. Ask for fewer.`,
    );
  }
  return { images, labels };
}

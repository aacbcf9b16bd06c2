/**
 * Makes sessions. Everything a caller can get wrong is said here, in the terms of src/engine/session.ts; the addon
 * then takes its arguments as they come. Errors from native code get the stack of the call that met them.
 */
import { EnvironmentError, fromNative, UsageError } from '../errors.js';
import type { Mask } from '../masks/mask.js';
import { unknownName } from '../suggest.js';
import { native } from './native.js';
import {
  type NativeConfig,
  type NativeModel,
  type NativeSession,
  nativeModel,
  PROGRAM_NAMES,
  programBits,
  TENSOR_KINDS,
} from './native-session.js';
import type {
  BatchResult,
  BatchStream,
  EngineName,
  EvalResult,
  GradientOptions,
  LossOptions,
  MemoryPlan,
  ProfileEvent,
  Program,
  RunOptions,
  RunResult,
  Session,
  SessionOptions,
  SgdOptions,
  TensorKind,
  Values,
} from './session.js';

const WHERE = '[session]';

function requireThat(condition: boolean, expected: string, got: unknown): asserts condition {
  if (!condition) throw new UsageError(`${WHERE} expected ${expected}, got ${String(got)}.`);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function countOnes(bits: Uint8Array): number {
  let ones = 0;
  for (let byte of bits) for (; byte; byte &= byte - 1) ones++;
  return ones;
}

function checkMask(
  mask: Mask,
  { name, shape, numel }: { name: string; shape: readonly number[]; numel: number },
) {
  const bytes = Math.ceil(numel / 8);
  if (mask.numel !== numel || mask.shape.join() !== shape.join()) {
    throw new UsageError(
      `[${name}] expected a mask of shape (${shape.join(', ')}), got (${mask.shape.join(', ')}).`,
    );
  }
  if (mask.bits.length !== bytes) {
    throw new UsageError(`[${name}] expected ${bytes} bytes of mask bits, got ${mask.bits.length}.`);
  }
  // A bit past the end, or a wrong count, would put the packed values out of step with their positions.
  const tail = numel % 8 === 0 ? 0 : mask.bits[bytes - 1]! >> (numel % 8);
  const ones = countOnes(mask.bits);
  if (tail !== 0 || ones !== mask.nnz) {
    throw new UsageError(
      `[${name}] expected a mask with nnz = ${mask.nnz} bits set below ${numel}, got ${ones}.`,
    );
  }
}

/** What the addon takes, from checked options. */
function nativeArguments(options: SessionOptions): { model: NativeModel; config: NativeConfig } {
  const { graph, batchSize } = options;
  const masks = options.masks ?? graph.params.map(() => null);
  const weightDecay = options.weightDecay ?? graph.params.map(() => 0);
  const programs = options.programs ?? ['train', 'eval'];
  const threads = options.threads ?? 0;
  requireThat(isCount(batchSize) && batchSize >= 1, 'batchSize to be a positive integer', batchSize);
  requireThat(isCount(threads), 'threads to be 0 (every core) or a positive integer', threads);
  requireThat(
    masks.length === graph.params.length,
    `${graph.params.length} masks, one a parameter`,
    masks.length,
  );
  requireThat(
    weightDecay.length === graph.params.length,
    `${graph.params.length} weightDecay values, one a parameter`,
    weightDecay.length,
  );
  for (const value of weightDecay) {
    requireThat(Number.isFinite(value) && value >= 0, 'weightDecay values to be finite and >= 0', value);
  }
  requireThat(programs.length > 0, 'at least one program', 'none');
  for (const program of programs) {
    if (!PROGRAM_NAMES.includes(program)) throw unknownName(WHERE, 'program', program, PROGRAM_NAMES);
  }
  for (const [index, param] of graph.params.entries()) {
    const mask = masks[index];
    if (mask) checkMask(mask, param);
  }
  return {
    model: nativeModel(graph, masks, weightDecay),
    config: {
      maxBatch: batchSize,
      threads,
      // Threads that share a machine with others must be free to move; those that fill it lose milliseconds when two of
      // them wake on one core.
      pin: options.pin ?? (threads === 0 || threads >= native().session.cpu().cores),
      programs: programBits(programs),
      plan: options.plan ?? null,
      measure: options.measure ?? false,
      tiles: options.tiles ?? '',
    },
  };
}

function requireEngine(name: EngineName): void {
  // STYLE §8 names the flag: most who meet this asked for it on the command line.
  if ((name as string) === 'cuda') {
    throw new EnvironmentError(
      '--device cuda: this build has no CUDA back-end. Run `npm run build:cuda`, or pass --device cpu.',
    );
  }
  const known = native().session.engines();
  if (!known.includes(name)) throw unknownName(WHERE, 'engine', name, known);
}

/** Settles like `promise`; an error of native code, which has no stack of its own, gets this call's. */
async function withStack<T>(promise: Promise<T>): Promise<T> {
  const here = new Error();
  try {
    return await promise;
  } catch (error) {
    const known = fromNative(error);
    if (known instanceof Error) {
      known.stack = `${known.name}: ${known.message}\n${here.stack?.split('\n').slice(1).join('\n')}`;
    }
    throw known;
  }
}

/**
 * What a session of these options would allocate, without allocating it.
 * @throws {UsageError} for options that make no session.
 */
export function planMemory(options: SessionOptions): MemoryPlan {
  requireEngine(options.engine);
  const { model, config } = nativeArguments(options);
  const { activations, parameters } = native().session.planMemory(options.engine, model, config);
  return { activations, parameters, total: activations + parameters };
}

/**
 * How many searches for kernels' tiles a session of these options would begin with; 0 unless `measure`.
 * @throws {UsageError} for options that make no session.
 */
export function countSearches(options: SessionOptions): number {
  requireEngine(options.engine);
  const { model, config } = nativeArguments(options);
  return native().session.planMemory(options.engine, model, config).searches;
}

/**
 * Plans and allocates a session, on its own thread. Parameters start at zero (running variances at one): write them.
 * @throws {UsageError} for options that make no session; {EnvironmentError} when the engine or the addon is missing;
 *   the signal's reason when it ends a search.
 */
export async function createSession(options: SessionOptions): Promise<Session> {
  requireEngine(options.engine);
  const { model, config } = nativeArguments(options);
  options.signal?.throwIfAborted();
  const handle = new (native().session.NativeSession)(options.engine, model, config);
  const { cancel, release } = cancelFlag(options.signal);
  try {
    const { plan, activations, parameters, profiles } = await withStack(handle.open(cancel));
    const memory = { activations, parameters, total: activations + parameters };
    return new EngineSession(options, handle, model, memory, plan, profiles);
  } catch (error) {
    await handle.dispose();
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    release();
  }
}

/** `cancel[0]` becomes 1 when the signal aborts; `release` ends the listening. */
function cancelFlag(signal: AbortSignal | undefined): { cancel: Int32Array; release: () => void } {
  const cancel = new Int32Array(1);
  const abort = () => {
    cancel[0] = 1;
  };
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  return { cancel, release: () => signal?.removeEventListener('abort', abort) };
}

class EngineSession implements Session {
  readonly engine: EngineName;
  readonly graph: SessionOptions['graph'];
  readonly #native: NativeSession;
  readonly #programs: readonly Program[];
  readonly #batchSize: number;
  /** Name to index and packed length. */
  readonly #params: ReadonlyMap<string, { index: number; count: number }>;
  readonly #buffers: ReadonlyMap<string, { index: number; count: number }>;
  readonly #profiles: boolean;
  #profiling = false;
  #stream: BatchStream | null = null;
  #disposed: Promise<void> | null = null;

  constructor(
    options: SessionOptions,
    handle: NativeSession,
    model: NativeModel,
    readonly memory: MemoryPlan,
    readonly plan: string,
    profiles: boolean,
  ) {
    this.#profiles = profiles;
    this.engine = options.engine;
    this.graph = options.graph;
    this.#native = handle;
    this.#programs = options.programs ?? ['train', 'eval'];
    this.#batchSize = options.batchSize;
    this.#params = new Map(model.params.map(({ name, nnz }, index) => [name, { index, count: nnz }]));
    this.#buffers = new Map(model.buffers.map(({ name, numel }, index) => [name, { index, count: numel }]));
  }

  async step(images: Values, labels: Int32Array, options: SgdOptions & LossOptions): Promise<BatchResult> {
    this.#require('train');
    this.#checkBatch(images, labels);
    return withStack(this.#native.step(images, labels, { ...sgdOf(options), ...lossOf(options) }));
  }

  attach(stream: BatchStream): void {
    this.#open();
    this.#stream = stream;
  }

  async run(options: RunOptions): Promise<RunResult> {
    this.#require('train');
    const { firstStep, steps, signal } = options;
    requireThat(this.#stream !== null, 'a stream to train on: call attach(stream) first', 'none');
    requireThat(isCount(firstStep), 'firstStep to be an integer >= 0', firstStep);
    requireThat(isCount(steps), 'steps to be an integer >= 0', steps);
    const lr = Float64Array.from(
      typeof options.lr === 'number' ? new Array<number>(steps).fill(options.lr) : options.lr,
    );
    requireThat(lr.length === steps, `one lr, or one for each of ${steps} steps`, `${lr.length} of them`);
    for (const value of lr) checkLr(value);
    const { momentum, nesterov } = sgdOf({ ...options, lr: 0 });
    const { cancel, release } = cancelFlag(signal);
    try {
      const result = await withStack(
        this.#native.run(
          this.#stream.native,
          { firstStep, momentum, nesterov, ...lossOf(options) },
          lr,
          cancel,
        ),
      );
      const { stepsDone, images, correct, waitSeconds, seconds } = result;
      return {
        stepsDone,
        images,
        correct,
        loss: result.lossSum / images,
        stepLosses: result.stepLosses.slice(0, stepsDone),
        waitSeconds,
        seconds,
        failure: result.failedStep < 0 ? null : { step: result.failedStep, layer: result.failedLayer },
      };
    } finally {
      release();
    }
  }

  async gradient(images: Values, labels: Int32Array, options: GradientOptions = {}): Promise<BatchResult> {
    this.#require('train');
    this.#checkBatch(images, labels);
    return withStack(this.#native.gradient(images, labels, gradientOptionsOf(options)));
  }

  async update(options: SgdOptions): Promise<void> {
    this.#require('train');
    return withStack(this.#native.update(sgdOf(options)));
  }

  async evaluate(images: Values, labels: Int32Array, options: LossOptions = {}) {
    this.#require('eval');
    this.#checkBatch(images, labels);
    return withStack(this.#native.evaluate(images, labels, lossOf(options)));
  }

  async evaluateStream(stream: BatchStream, options: { signal?: AbortSignal } = {}): Promise<EvalResult> {
    this.#require('eval');
    options.signal?.throwIfAborted();
    const { cancel, release } = cancelFlag(options.signal);
    try {
      const { images, correct, nllSum } = await withStack(this.#native.evaluateStream(stream.native, cancel));
      options.signal?.throwIfAborted();
      return { images, correct, accuracy: correct / images, nll: nllSum / images };
    } finally {
      release();
    }
  }

  async inputGradient(
    images: Values,
    labels: Int32Array,
    options: LossOptions & { inputScale?: readonly number[] } = {},
  ) {
    this.#require('inputGradient');
    this.#checkBatch(images, labels);
    const [channels] = this.graph.input;
    const scale = Float64Array.from(options.inputScale ?? new Array<number>(channels).fill(1));
    requireThat(scale.length === channels, `${channels} values of inputScale, one a channel`, scale.length);
    requireThat(scale.every(Number.isFinite), 'inputScale to be finite', scale.join(', '));
    return withStack(this.#native.inputGradient(images, labels, lossOf(options), scale));
  }

  async tangent(images: Values, labels: Int32Array, options: GradientOptions = {}): Promise<BatchResult> {
    this.#require('tangent');
    this.#checkBatch(images, labels);
    return withStack(this.#native.tangent(images, labels, gradientOptionsOf(options)));
  }

  async read(kind: TensorKind, name: string): Promise<Values> {
    const { index } = this.#find(kind, name);
    return withStack(this.#native.read(TENSOR_KINDS[kind], index));
  }

  async write(kind: TensorKind, name: string, values: Values): Promise<void> {
    const { index, count } = this.#find(kind, name);
    if (values.length !== count) {
      throw new UsageError(
        `[${name}] expected ${count} ${kind} values (packed: kept elements in row-major order), got ${values.length}.`,
      );
    }
    const Type = this.engine === 'reference' ? Float64Array : Float32Array;
    const typed = values instanceof Type ? values : Type.from(values);
    return withStack(this.#native.write(TENSOR_KINDS[kind], index, typed));
  }

  async startProfile(): Promise<void> {
    this.#require('train');
    requireThat(this.#profiles, "engine 'cpu', which records its ops", `engine '${this.engine}'`);
    requireThat(!this.#profiling, 'no profile to be on: call stopProfile() first', 'a second startProfile()');
    this.#profiling = true;
    return withStack(this.#native.startProfile());
  }

  async stopProfile(): Promise<ProfileEvent[]> {
    this.#open();
    requireThat(this.#profiling, 'a profile to be on: call startProfile() first', 'none');
    this.#profiling = false;
    return withStack(this.#native.stopProfile());
  }

  async dispose(): Promise<void> {
    this.#stream = null;
    this.#disposed ??= withStack(this.#native.dispose());
    return this.#disposed;
  }

  #open(): void {
    if (this.#disposed) {
      throw new UsageError(
        `${WHERE} expected an open session, got a disposed one. Make another with createSession().`,
      );
    }
  }

  #require(program: Program): void {
    this.#open();
    if (!this.#programs.includes(program)) {
      throw new UsageError(
        `${WHERE} expected a session with program '${program}', got one planned for ${this.#programs.join(', ')}. Add it to createSession's programs.`,
      );
    }
  }

  #checkBatch(images: Values, labels: Int32Array): void {
    const { input, classes } = this.graph;
    requireThat(
      images instanceof Float32Array || images instanceof Float64Array,
      'images to be a Float32Array or a Float64Array',
      Object.prototype.toString.call(images),
    );
    requireThat(
      labels instanceof Int32Array,
      'labels to be an Int32Array',
      Object.prototype.toString.call(labels),
    );
    const n = labels.length;
    requireThat(
      n >= 1 && n <= this.#batchSize,
      `1 to ${this.#batchSize} images (the planned batch)`,
      `${n} labels`,
    );
    const values = n * input[0] * input[1] * input[2];
    requireThat(
      images.length === values,
      `images (${n}, ${input.join(', ')}) = ${values} values for ${n} labels`,
      `${images.length} values`,
    );
    const wrong = labels.findIndex((label) => label < 0 || label >= classes);
    requireThat(wrong < 0, `labels in [0, ${classes})`, `${labels[wrong]} at ${wrong}`);
  }

  #find(kind: TensorKind, name: string): { index: number; count: number } {
    this.#open();
    if (!Object.hasOwn(TENSOR_KINDS, kind)) {
      throw unknownName(WHERE, 'tensor kind', kind, Object.keys(TENSOR_KINDS));
    }
    if (kind === 'direction' || kind === 'gradientTangent') this.#require('tangent');
    if (kind === 'momentum') this.#require('train');
    const tensors = kind === 'running' ? this.#buffers : this.#params;
    const found = tensors.get(name);
    if (!found) {
      throw unknownName(WHERE, kind === 'running' ? 'buffer' : 'parameter', name, [...tensors.keys()]);
    }
    return found;
  }
}

function checkLr(lr: number): void {
  requireThat(Number.isFinite(lr), 'lr to be finite', lr);
}

function sgdOf({ lr, momentum = 0, nesterov = false }: SgdOptions) {
  checkLr(lr);
  requireThat(Number.isFinite(momentum) && momentum >= 0, 'momentum to be finite and >= 0', momentum);
  if (nesterov && momentum === 0) {
    throw new UsageError(`${WHERE} expected a momentum > 0 with nesterov, got 0.`);
  }
  return { lr, momentum, nesterov };
}

function lossOf({ labelSmoothing = 0, logitScale = 1 }: LossOptions) {
  requireThat(labelSmoothing >= 0 && labelSmoothing <= 1, 'labelSmoothing in [0, 1]', labelSmoothing);
  requireThat(Number.isFinite(logitScale), 'logitScale to be finite', logitScale);
  return { labelSmoothing, logitScale };
}

function gradientOptionsOf(options: GradientOptions) {
  const { weight = 1, accumulate = false, updateRunningStats = true } = options;
  requireThat(Number.isFinite(weight), 'weight to be finite', weight);
  return { ...lossOf(options), weight, accumulate, updateRunningStats };
}

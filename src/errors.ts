/**
 * The errors this library throws on purpose, one class per exit code of `rp`. Messages say where, what was expected,
 * what came, and what to do. Libraries throw; only src/cli/main.ts turns them into exit codes.
 */

export abstract class RandomPruningError extends Error {
  abstract readonly exitCode: 1 | 2 | 3 | 4;
  override get name(): string {
    return this.constructor.name;
  }
}

/** The run failed: NaN or Inf, input/output errors. */
export class RunError extends RandomPruningError {
  readonly exitCode = 1;
}

/** A flag or an argument asks for something that does not exist or cannot be. */
export class UsageError extends RandomPruningError {
  readonly exitCode = 2;
}

/** The same, said by a config. */
export class ConfigError extends UsageError {}

/** This machine lacks something: an engine, a data set, memory. */
export class EnvironmentError extends RandomPruningError {
  readonly exitCode = 3;
}

/** A checkpoint or a data file is damaged: which file, at which byte, what was expected, what came. */
export class CorruptError extends RandomPruningError {
  readonly exitCode = 4;
  constructor(
    readonly file: string,
    /** Byte offset in `file` where the damage shows. */
    readonly offset: number,
    readonly expected: string,
    readonly got: string,
    advice = '',
  ) {
    super(`${file}: damaged at byte ${offset}: expected ${expected}, got ${got}.${advice && ` ${advice}`}`);
  }

  /** The same damage, with what to do about it. */
  withAdvice(advice: string): CorruptError {
    return new CorruptError(this.file, this.offset, this.expected, this.got, advice);
  }
}

/** Exit code for any thrown value; what is not ours is a bug, or the system's, and fails the run. */
export function exitCodeOf(error: unknown): 1 | 2 | 3 | 4 {
  return error instanceof RandomPruningError ? error.exitCode : 1;
}

/**
 * Native readers throw rp::CorruptError (native/core/error.h); the bindings give it `code: 'RP_CORRUPT'` and its
 * parts. Turns that into CorruptError; every other value passes unchanged.
 */
export function fromNative(error: unknown): unknown {
  const native = error as { code?: unknown; file: string; offset: number; expected: string; got: string };
  if (!(error instanceof Error) || native.code !== 'RP_CORRUPT') return error;
  return new CorruptError(native.file, native.offset, native.expected, native.got);
}

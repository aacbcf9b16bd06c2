/**
 * Layers of settings → one complete ExperimentConfig. Each layer is checked against the schema of src/config.ts
 * with its own way of naming a place (`--lr`, `RP_LR`, `run.yaml: lr`), then the stronger layer wins, value by value.
 */
import { z } from 'zod';
import { type Recipe, type RecipeName, recipes } from '../models/recipes.js';
import { buildModel } from './architectures/index.js';
import {
  configFields,
  type ExperimentConfig,
  type ExperimentOptions,
  experimentSchema,
  type Field,
} from './config.js';
import { ConfigError, EnvironmentError } from './errors.js';
import { findPolicy } from './ratios/index.js';
import { unknownName } from './suggest.js';

/** Settings from one source; later layers are stronger. */
export interface ConfigLayer {
  readonly values: object;
  /** Names a setting as its source does: `--batch-size`, `RP_BATCH_SIZE`, `run.yaml: batchSize`. */
  readonly where: (path: readonly string[]) => string;
}

type Settings = Record<string, unknown>;

const fieldByPath = new Map(configFields.map((field) => [field.path.join('.'), field]));
const isRecord = (value: unknown): value is Settings =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** "Did you mean …?" for the slips people make with numbers. */
function numberHint(field: Field, value: unknown): string {
  const number = typeof value === 'string' ? Number.parseFloat(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number)) return '';
  const candidates = [number / 100, Math.round(number), Math.abs(number)];
  const meant = candidates.find(
    (candidate) => candidate !== number && field.schema.safeParse(candidate).success,
  );
  // 50 for a share is a percentage; 1e9 for one is not.
  return meant === undefined || Math.abs(number) > 100 ? '' : ` Did you mean ${meant}?`;
}

/** Checks one value; throws the error that a user of its source can act on. */
function checkValue(field: Field, value: unknown, where: string): unknown {
  const name = field.path.join('.');
  if (name === 'device' && value === 'auto') return 'cpu';
  if (name === 'device' && typeof value === 'string' && /^cuda(:\d+)?$/.test(value)) {
    throw new EnvironmentError(`${where} ${value}: this build has no CUDA back-end. Pass --device cpu.`);
  }
  const result = field.schema.safeParse(value);
  if (result.success) return result.data;
  if (field.schema instanceof z.ZodEnum && typeof value === 'string') {
    throw unknownName(where, 'value', value, field.schema.options.map(String));
  }
  const shown = typeof value === 'string' ? `"${value}"` : (JSON.stringify(value) ?? String(value));
  throw new ConfigError(`${where}: expected ${field.expects}, got ${shown}.${numberHint(field, value)}`);
}

/** One layer's settings, checked, for a verb that takes a few of them. */
export const checkSettings = (layer: ConfigLayer): Partial<ExperimentConfig> => checkLayer(layer);

/** The layer's settings, checked, with undefined left out and sparsity turned into density. */
function checkLayer({ values, where }: ConfigLayer): Settings {
  const checked: Settings = {};
  const visit = (object: Settings, parents: readonly string[], into: Settings) => {
    for (const [key, value] of Object.entries(object)) {
      const path = [...parents, key];
      const name = path.join('.');
      if (value === undefined) continue;
      const field = fieldByPath.get(name);
      if (field) {
        into[key] = checkValue(field, value, where(path));
      } else if (
        isRecord(value) &&
        configFields.some((known) => known.path[0] === key && known.path.length > 1)
      ) {
        const group: Settings = {};
        into[key] = group;
        visit(value, path, group);
      } else {
        throw unknownName(where(path), 'setting', name, [...fieldByPath.keys()]);
      }
    }
  };
  visit(values as Settings, [], checked);
  if ('sparsity' in checked) {
    if ('density' in checked) {
      throw new ConfigError(
        `${where(['sparsity'])}: given together with ${where(['density'])}; they say one thing, give one.`,
      );
    }
    checked.density = sparsityToDensity(checked.sparsity as number);
    delete checked.sparsity;
  }
  return checked;
}

/** 1 − s as the decimal a person means: 1 − 0.8 is 0.19999999999999996, which is another branch of uniform+ (SPEC 8.4). */
export function sparsityToDensity(sparsity: number): number {
  return Math.round((1 - sparsity) * 1e10) / 1e10;
}

const planned = [
  'arch',
  'classes',
  'imageSize',
  'ratio',
  'density',
  'granularity',
  'data',
  'batchSize',
  'device',
  'tune',
];

/** Settings that a stronger layer's setting would otherwise leave standing against its evident meaning. */
function impliedBy(layer: Settings): Settings {
  const implied: Settings = {};
  // A new seed is the seed of everything, though the file under it spelled out all four.
  if ('seed' in layer)
    Object.assign(implied, { initSeed: undefined, maskSeed: undefined, dataSeed: undefined });
  // A batch size that was asked for is kept or refused, never lowered.
  if ('batchSize' in layer) implied.fitBatch = false;
  if (layer.ratio === 'dense') implied.density = 1;
  // A plan holds the choices for one network and one batch; who says how to choose wants them made.
  if (planned.some((key) => key in layer)) implied.plan = null;
  return implied;
}

function merge(into: Settings, layer: Settings): void {
  for (const [key, value] of Object.entries(layer)) {
    const under = into[key];
    into[key] = isRecord(value) ? { ...(isRecord(under) ? under : {}), ...value } : value;
  }
}

function recipeSettings(name: RecipeName, dense: boolean, epochs: number | undefined): Settings {
  const recipe: Recipe = recipes[name];
  const kind = dense ? 'dense' : 'sparse';
  const { milestones, ...same } = recipe;
  const run = epochs ?? recipe.epochs[kind];
  return {
    ...same,
    preset: name,
    fitBatch: true,
    epochs: run,
    // 1e-9: 90 · (80/90) must be 80. Epoch 0 has no milestone before it.
    milestones: milestones[kind].map((share) => Math.max(1, Math.floor(share * run + 1e-9))),
  };
}

function defaultSettings(): Settings {
  const defaults: Settings = { initialisation: {} };
  for (const field of configFields) {
    if (field.default === undefined) continue;
    const parent = field.path.length > 1 ? (defaults[field.path[0]!] as Settings) : defaults;
    parent[field.path.at(-1)!] = field.default;
  }
  return defaults;
}

/** Merges the layers, weakest first, over the defaults and the network's recipe. */
export function resolveConfig(layers: readonly ConfigLayer[]): ExperimentConfig {
  const said: Settings = {};
  for (const layer of layers) {
    const checked = checkLayer(layer);
    merge(said, impliedBy(checked));
    merge(said, checked);
  }
  const where = layers.at(-1)?.where ?? ((path: readonly string[]) => path.join('.'));
  if (said.arch === undefined) {
    throw new ConfigError(`${where(['arch'])}: missing; expected ${fieldByPath.get('arch')!.expects}.`);
  }
  const fromFile = typeof said.ratio === 'string' && said.ratio.startsWith('file:');
  said.density ??= fromFile || said.ratio === undefined || said.ratio === 'dense' ? 1 : undefined;
  if (said.density === undefined) {
    throw new ConfigError(
      `${where(['sparsity'])}: missing; ${where(['ratio'])} ${said.ratio} spreads a budget, say which: --sparsity 0.5.`,
    );
  }
  const dense = said.density === 1 && !fromFile;
  said.ratio ??= dense ? 'dense' : 'erk';
  if (said.ratio === 'dense' && !dense) {
    throw new ConfigError(
      `${where(['ratio'])}: dense keeps every weight, but ${where(['density'])} is ${said.density}. Leave out one of them.`,
    );
  }
  findPolicy(said.ratio as string);
  const preset = (said.preset as RecipeName | undefined) ?? buildModel(said.arch as string).recipe;
  const settings = defaultSettings();
  merge(settings, recipeSettings(preset, dense, said.epochs as number | undefined));
  merge(settings, Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)));
  for (const key of ['initSeed', 'maskSeed', 'dataSeed']) settings[key] ??= settings.seed;
  return experimentSchema.parse(settings);
}

/** The configuration of a program's own options: `experimentConfig({ arch: 'resnet20', ratio: 'erk', sparsity: 0.5 })`. */
export function experimentConfig(options: ExperimentOptions): ExperimentConfig {
  return resolveConfig([{ values: options, where: (path) => path.join('.') }]);
}

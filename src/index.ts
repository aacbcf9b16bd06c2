/** The public API. */
export {
  buildModel,
  type Model,
  type ModelListing,
  type ModelOptions,
  modelNames,
} from './architectures/index.js';
export {
  type Best,
  type Checkpoint,
  type MaskRecipe,
  type OptimizerState,
  type ParamState,
  type Position,
  type Seeds,
  tensorBytes,
} from './checkpoint/checkpoint.js';
export { type FoundCheckpoint, loadCheckpoint, validCheckpoints } from './checkpoint/load.js';
export { type SavedCheckpoint, type SaveOptions, saveCheckpoint } from './checkpoint/save.js';
export { weightsSha256 } from './checkpoint/weights-hash.js';
export type { ExperimentConfig, ExperimentOptions } from './config.js';
export * from './data/index.js';
export { createSession, planMemory } from './engine/create-session.js';
export { availableMemory, type BatchPlan, fitBatch, largestFittingBatch } from './engine/memory.js';
export type * from './engine/session.js';
export * from './errors.js';
export { type EvaluateOptions, type EvaluationReport, evaluateCheckpoint } from './evaluate.js';
export { type ExperimentHooks, resumeExperiment, runExperiment } from './experiment.js';
export * from './graph/index.js';
export * from './masks/index.js';
export * from './metrics/flops.js';
export {
  fillBudget,
  findPolicy,
  type LayerDensitiesOptions,
  layerDensities,
  type RatioOptions,
  type RatioPolicy,
  ratioPolicies,
  type SaliencyPolicy,
  type Scores,
  type ShapePolicy,
  saliencyMasks,
} from './ratios/index.js';
export { experimentConfig } from './resolve-config.js';
export type * from './training/events.js';
export { type InitialisationOptions, initialWeights } from './training/initialise.js';
export { modelOf, type OwnParts } from './training/prepare.js';
export {
  collectPerClass,
  measureGrasp,
  measureSnip,
  type Saliency,
  splitBatch,
} from './training/saliency.js';
export { learningRate, learningRates, type ScheduleOptions } from './training/schedules.js';
export { readState, type SessionState, weightDecays, writeState, writeWeights } from './training/state.js';

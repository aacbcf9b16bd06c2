/** `rp bench --profile`: steps of our engine by itself, on the case of the other benches, recorded op by op. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildModel } from '../architectures/index.js';
import { writeCase } from './case.js';
import { Contestant } from './contestant.js';
import { benchMasks } from './masks.js';
import { ours } from './peers.js';
import { chromeTrace, type ProfileSummary, profiledLayers, summariseProfile, type Trace } from './profile.js';
import { fittingBatch } from './train.js';

export interface ProfileOptions {
  readonly arch: string;
  /** Absent: dense. */
  readonly sparse?: { readonly ratio: string; readonly density: number };
  /** Default: as benchTraining's. */
  readonly batchSize?: number;
  readonly threads: number;
  /** About how long to record for: 3 to 20 steps. */
  readonly seconds: number;
  readonly onProgress?: (message: string) => void;
}

export interface TrainProfile extends ProfileSummary {
  readonly arch: string;
  /** Absent: dense. */
  readonly ratio?: string;
  readonly density?: number;
  readonly batchSize: number;
  readonly threads: number;
  readonly version: string;
}

/** Pages are touched by the first step; the others show that it has settled, and how long one takes. */
const WARM_UP_STEPS = 3;
const [LEAST_STEPS, MOST_STEPS] = [3, 20];

/** @throws {EnvironmentError} where not even one image fits in memory; {RunError} when the engine ends early */
export async function profileTraining(
  options: ProfileOptions,
): Promise<{ readonly summary: TrainProfile; readonly trace: Trace }> {
  const { arch, sparse, threads, seconds, onProgress } = options;
  const say = (message: string) => onProgress?.(`${arch}: ${message}`);
  const { graph } = buildModel(arch);
  const directory = mkdtempSync(join(tmpdir(), 'rp-profile-'));
  try {
    const spec = ours(directory, threads, sparse);
    const { batchSize } = fittingBatch([spec], options, say);
    writeCase(directory, arch, batchSize);
    const contestant = await Contestant.start(spec);
    try {
      say(`warming up ${spec.name}`);
      const warmUp = await contestant.steps(WARM_UP_STEPS);
      const fitting = Math.round(seconds / warmUp.seconds.at(-1)!);
      const steps = Math.min(Math.max(fitting, LEAST_STEPS), MOST_STEPS);
      say(`recording ${steps} steps`);
      const events = await contestant.profile(steps);
      const masks = sparse ? benchMasks(graph, sparse.ratio, sparse.density).masks : [];
      const network = { batchSize, layers: profiledLayers(graph, masks) };
      const about = { arch, ...sparse, batchSize, threads, version: contestant.version };
      return {
        summary: { ...about, ...summariseProfile(events, network) },
        trace: chromeTrace(events, network, about),
      };
    } finally {
      await contestant.close();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

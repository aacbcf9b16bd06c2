import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { addExperimentFlags, experimentOf, variableName } from '../../src/cli/config-sources.js';
import { configFields } from '../../src/config.js';

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'rp-config-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

/** The configuration that a command line, a file and variables give together. */
function resolve(argv: readonly string[], env: NodeJS.ProcessEnv = {}, file?: object) {
  const command = new Command('run').exitOverride();
  addExperimentFlags(command);
  const name = path.join(directory, 'run.yaml');
  if (file) fs.writeFileSync(name, stringify(file));
  command.parse([...argv, ...(file ? ['-c', name] : [])], { from: 'user' });
  return experimentOf(command, env);
}

describe('sources of settings', () => {
  it('ranks defaults < recipe < file < environment < --set < flags', () => {
    const file = {
      arch: 'resnet20',
      sparsity: 0.5,
      momentum: 0.1,
      lr: 0.1,
      weightDecay: 0.1,
      labelSmoothing: 0.1,
    };
    const env = { RP_LR: '0.2', RP_WEIGHT_DECAY: '0.2', RP_LABEL_SMOOTHING: '0.2' };
    const argv = ['--set', 'weightDecay=0.3', '--set', 'labelSmoothing=0.3', '--label-smoothing', '0.4'];
    expect(resolve(argv, env, file)).toMatchObject({
      logInterval: 50,
      epochs: 160,
      momentum: 0.1,
      lr: 0.2,
      weightDecay: 0.3,
      labelSmoothing: 0.4,
    });
  });

  it('lets --sparsity win over a density in the file', () => {
    expect(resolve(['--sparsity', '0.9'], {}, { arch: 'resnet20', density: 0.5 }).density).toBe(0.1);
  });

  it('refuses --sparsity with --density', () => {
    expect(() => resolve(['-a', 'resnet20', '--sparsity', '0.5', '--density', '0.5'])).toThrow(
      '--sparsity: given together with --density; they say one thing, give one.',
    );
  });

  it('reads every flag of the schema into its field', () => {
    const argv = [
      ...[
        '-a',
        'vgg16',
        '--classes',
        '7',
        '--ratio',
        'erk_plus',
        '--density',
        '0.25',
        '--classifier-density',
        '0.5',
      ],
      ...['--sampler', 'exact', '--granularity', 'block:16x8', '--init-fan', 'out', '--milestones', '3,5'],
      ...[
        '-b',
        '32',
        '-j',
        '1',
        '--nesterov',
        '--no-drop-last',
        '-o',
        'out',
        '--save-every',
        '20it',
        '--memory',
        '1GiB',
      ],
    ];
    expect(resolve(argv)).toMatchObject({
      arch: 'vgg16',
      classes: 7,
      ratio: 'erk_plus',
      density: 0.25,
      classifierDensity: 0.5,
      sampler: 'exact',
      granularity: 'block:16x8',
      initialisation: { fan: 'out', scaled: 'off' },
      milestones: [3, 5],
      batchSize: 32,
      fitBatch: false,
      workers: 1,
      nesterov: true,
      dropLast: false,
      outputDir: 'out',
      saveEvery: '20it',
      memory: '1GiB',
    });
  });

  it('says no with --no-nesterov and none with --milestones none', () => {
    expect(resolve(['-a', 'resnet20', '--no-nesterov', '--milestones', 'none'])).toMatchObject({
      nesterov: false,
      milestones: [],
    });
  });

  it('gives every field a variable of its own', () => {
    const names = configFields.map(variableName);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('RP_INITIALISATION_FAN');
    expect(names).toContain('RP_DATA');
  });

  it.each([
    [
      ['-a', 'resnet20', '--sparsity', '50'],
      {},
      '--sparsity: expected a number in [0, 1), got 50. Did you mean 0.5?',
    ],
    [['-a', 'resnet20', '--epochs', 'two'], {}, '--epochs: expected a whole number >= 1, got "two".'],
    [['-a', 'resnet20', '--set', 'lrr=1'], {}, '--set lrr=1: unknown setting "lrr".'],
    [['-a', 'resnet20', '--set', 'lr'], {}, '--set lr: expected name=value, got "lr".'],
    [['-a', 'resnet20', '--set', 'lr=x'], {}, '--set lr: expected a number >= 0, got "x".'],
    [['-a', 'resnet20'], { RP_EPOCHS: '0' }, 'RP_EPOCHS: expected a whole number >= 1, got 0.'],
    [['-a', 'resnet20'], { RP_EPOCH: '3' }, 'RP_EPOCH: unknown variable. Did you mean RP_EPOCHS?'],
    [['-a', 'resnet20', '--device', 'cuda'], {}, '--device cuda: this build has no CUDA back-end.'],
    [['-c', '/nowhere/run.yaml'], {}, '--config /nowhere/run.yaml: ENOENT'],
    [[], {}, '--arch: missing; expected the name of a network'],
  ])('refuses %j %j', (argv, env, message) => {
    expect(() => resolve(argv, env)).toThrow(message);
  });

  it('ignores RP_ variables of the build and the loader', () => {
    expect(resolve(['-a', 'resnet20'], { RP_ADDON: '/x.node', RP_ASAN: '1' }).arch).toBe('resnet20');
  });

  it('names file and setting of a mistake in a file, and the line of broken YAML', () => {
    expect(() => resolve([], {}, { arch: 'resnet20', epoch: 3 })).toThrow(
      /run\.yaml: epoch: unknown setting "epoch".*Did you mean "epochs"\?/,
    );
    expect(() => resolve([], {}, { arch: 'resnet20', initialisation: 'in' })).toThrow(
      'run.yaml: initialisation',
    );
    const broken = path.join(directory, 'broken.yaml');
    fs.writeFileSync(broken, 'arch: resnet20\nlr: [1\n');
    expect(() => resolve(['-c', broken])).toThrow(/broken\.yaml:\d+: not YAML/);
    fs.writeFileSync(broken, '- resnet20\n');
    expect(() => resolve(['-c', broken])).toThrow('expected settings (`lr: 0.1`), got a list.');
  });

  it("takes a file's paths as relative to the file", () => {
    const config = resolve(
      [],
      {},
      { arch: 'resnet20', sparsity: 0.5, plan: 'plan.json', ratio: 'file:d.json' },
    );
    expect(config.plan).toBe(path.join(directory, 'plan.json'));
    expect(config.ratio).toBe(`file:${path.join(directory, 'd.json')}`);
  });

  it("drops a file's plan when a flag asks for another network, or for tiles measured again", () => {
    const file = { arch: 'resnet20', sparsity: 0.5, plan: 'plan.json' };
    expect(resolve(['--sparsity', '0.9'], {}, file).plan).toBeNull();
    expect(resolve(['--tune', 'again'], {}, file).plan).toBeNull();
    expect(resolve(['--lr', '0.2'], {}, file).plan).toBe(path.join(directory, 'plan.json'));
  });
});

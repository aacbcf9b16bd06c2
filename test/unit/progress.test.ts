import { describe, expect, it } from 'vitest';
import { durationText, table } from '../../src/cli/cli.js';
import { Progress } from '../../src/cli/progress.js';
import { experimentConfig } from '../../src/resolve-config.js';
import type { ExperimentEvent, ProgressEvent } from '../../src/training/events.js';
import { bytesText } from '../../src/units.js';

const event = (step: number): ProgressEvent => ({
  type: 'progress',
  epoch: 1,
  epochs: 2,
  step,
  totalSteps: 200,
  loss: 1.23456,
  accuracy: 0.5,
  lr: 0.1,
  imagesPerSecond: 1000,
  waitShare: 0.004,
});

function show(events: readonly ExperimentEvent[], { isTTY = false, env = {}, flags = {} } = {}) {
  let text = '';
  let now = 0;
  const stderr = { isTTY, columns: 200, write: (part: string) => (text += part) };
  const cli = { stdout: stderr, stderr, env };
  const progress = new Progress(cli, { progress: true, ...flags }, () => now++);
  for (const one of events) progress.show(one);
  progress.clear();
  return text;
}

describe('Progress', () => {
  it('writes plain lines where there is no terminal, with everything a watcher asks', () => {
    const text = show([event(50), event(100)]);
    expect(text.split('\n')).toHaveLength(3);
    expect(text).toContain('epoch 1/2  step 100/200  loss 1.2346  acc 50.00%  lr 0.1  1000 img/s  wait 0.4%');
    expect(text).not.toContain('\x1b');
  });

  it('redraws one line on a terminal and takes it away at the end', () => {
    const text = show([event(50), event(100)], { isTTY: true });
    expect(text).not.toContain('\n');
    expect(text).toContain('\x1b[32m━━━━━━ ');
    expect(text.endsWith('\r\x1b[2K')).toBe(true);
  });

  it('honours NO_COLOR and CI', () => {
    expect(show([event(50)], { isTTY: true, env: { NO_COLOR: '1' } })).not.toContain('\x1b[32m');
    expect(show([event(50)], { isTTY: true, env: { CI: 'true' } })).not.toContain('\x1b');
  });

  it("lists the layers with -v: kernel, tiles, and their search's figures where there are some", () => {
    const layer = { shape: [16, 3, 3, 3], numel: 432, density: 0.5, nnz: 216, macs: 1, kernel: 'conv_avx2' };
    const planned: ExperimentEvent = {
      type: 'planned',
      config: experimentConfig({ arch: 'resnet20', sparsity: 0.5 }),
      data: { name: 'tiny', description: 'images', synthetic: true },
      layers: [
        {
          ...layer,
          name: 'a',
          tiles: 'forward=3x7/3n wgrad=3x7/3',
          measured: 'forward 182 wgrad 117 GFLOP/s',
        },
        { ...layer, name: 'b', tiles: 'forward=2x8/4 wgrad=2x8/4', measured: '' },
      ],
      ...{ maskHash: 'ab', flopsRatio: 0.5, memoryBytes: 1, plan: '{}', engine: 'cpu', trainImages: 1 },
      ...{ stepsPerEpoch: 1, totalSteps: 1, firstStep: 0 },
    };
    expect(
      show([planned], { flags: { verbose: true } })
        .split('\n')
        .slice(-4),
    ).toEqual([
      'layer  shape     nnz  density  kernel     tiles                       measured',
      'a      16×3×3×3  216   0.5000  conv_avx2  forward=3x7/3n wgrad=3x7/3  forward 182 wgrad 117 GFLOP/s',
      'b      16×3×3×3  216   0.5000  conv_avx2  forward=2x8/4 wgrad=2x8/4',
      '',
    ]);
    expect(show([planned])).not.toContain('conv_avx2');
  });

  it('is silent with --quiet and with --no-progress', () => {
    expect(show([event(50)], { flags: { quiet: true } })).toBe('');
    expect(show([event(50)], { flags: { progress: false } })).toBe('');
  });
});

describe('texts', () => {
  it('shortens bytes and durations', () => {
    expect([0, 999, 1500, 68_883_240, 12e9].map(bytesText)).toEqual([
      '0 B',
      '999 B',
      '1.5 kB',
      '68.9 MB',
      '12 GB',
    ]);
    expect([0.4, 75, 4020, Number.POSITIVE_INFINITY].map(durationText)).toEqual([
      '0s',
      '1m15s',
      '1h07m',
      '?',
    ]);
  });

  it('puts numbers to the right of a column and words to the left', () => {
    expect(
      table([
        ['name', 'n'],
        ['a', 5],
        ['longer', 1000],
      ]),
    ).toBe('name       n\na          5\nlonger  1000\n');
  });
});

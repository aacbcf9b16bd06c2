/**
 * Accuracy beside PyTorch: ResNet-20, dense and ERK at sparsity 0.5, the CIFAR recipe, several seeds, the same images.
 *
 *   npm run build && node bench/accuracy/run.mjs --data-dir DIR [--epochs 15] [--seeds 17,18,19] [--out bench/results/accuracy]
 *
 * Each run's epochs stand in OUT/<engine>-<ratio>-<seed>.jsonl; runs that are there already are kept. Prints the README's
 * table and draws OUT/curves.svg. PyTorch (RP_PYTHON, python3 or /usr/bin/python3) trains bench/peers/torch_resnet.py.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: options } = parseArgs({
  options: {
    'data-dir': { type: 'string' },
    epochs: { type: 'string', default: '15' },
    seeds: { type: 'string', default: '17,18,19' },
    out: { type: 'string', default: join(root, 'bench/results/accuracy') },
  },
});
if (!options['data-dir']) {
  console.error('--data-dir: expected the directory of CIFAR-10 (data_batch_*.bin, test_batch.bin).');
  process.exit(2);
}
const epochs = Number(options.epochs);
/** The CIFAR recipe's half and three quarters (SPEC 3.1), in whole epochs, the same for both engines. */
const milestones = [Math.ceil(epochs / 2), Math.ceil((3 * epochs) / 4)];
const seeds = options.seeds.split(',').map(Number);
const ratios = [
  { name: 'dense', title: 'dense', args: ['--ratio', 'dense'] },
  { name: 'erk', title: 'ERK, sparsity 0.5', args: ['--ratio', 'erk', '--sparsity', '0.5'] },
];

const rp = (args) =>
  execFileSync(process.execPath, [join(root, 'dist/src/cli/main.js'), ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });

function python() {
  for (const candidate of [process.env.RP_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean)) {
    try {
      execFileSync(candidate, ['-c', 'import torch, numpy'], { stdio: 'ignore' });
      return candidate;
    } catch {
      // Not this one.
    }
  }
  throw new Error('No python3 with PyTorch found (Debian: apt-get install python3-torch; or set RP_PYTHON).');
}

/** One line an epoch: {epoch, train_loss, test_loss, test_accuracy, seconds}. */
const engines = {
  ours({ args }, seed) {
    const folder = mkdtempSync(join(tmpdir(), 'rp-accuracy-'));
    try {
      const flags = [
        '--data',
        'cifar10',
        '--data-dir',
        options['data-dir'],
        '--epochs',
        `${epochs}`,
        '--milestones',
        milestones.join(),
      ];
      rp([
        'run',
        '-a',
        'resnet20',
        ...args,
        ...flags,
        '--seed',
        `${seed}`,
        '-o',
        folder,
        '--no-progress',
        '--json',
      ]);
      const records = readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      return records
        .filter(({ type }) => type === 'epoch')
        .map(({ epoch, train, test, seconds }) => ({
          seed,
          epoch,
          train_loss: train.loss,
          test_loss: test.loss,
          test_accuracy: test.accuracy,
          seconds,
        }));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  torch({ name, args }, seed) {
    const layers =
      name === 'dense' ? [] : JSON.parse(rp(['sparsity', '-a', 'resnet20', ...args, '--json'])).layers;
    const densities = Object.fromEntries(layers.map(({ name, density }) => [name, density]));
    const folder = mkdtempSync(join(tmpdir(), 'rp-accuracy-'));
    const config = join(folder, 'config.json');
    writeFileSync(
      config,
      JSON.stringify({ seed, data_dir: options['data-dir'], epochs, milestones, densities }),
    );
    try {
      const output = execFileSync(python(), [join(root, 'bench/peers/torch_resnet.py'), 'train', config], {
        encoding: 'utf8',
      });
      return output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values) =>
  Math.sqrt(values.reduce((sum, v) => sum + (v - mean(values)) ** 2, 0) / (values.length - 1));
const percent = (x) => (100 * x).toFixed(1);

mkdirSync(options.out, { recursive: true });
const series = [];
for (const ratio of ratios) {
  for (const [engine, train] of Object.entries(engines)) {
    const runs = seeds.map((seed) => {
      const file = join(options.out, `${engine}-${ratio.name}-${seed}.jsonl`);
      if (!existsSync(file)) {
        writeFileSync(
          file,
          `${train(ratio, seed)
            .map((epoch) => JSON.stringify(epoch))
            .join('\n')}\n`,
        );
      }
      return readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    });
    if (runs.some((run) => run.length !== epochs)) {
      throw new Error(
        `${engine} ${ratio.name}: runs of other lengths lie in ${options.out}; choose another --out.`,
      );
    }
    series.push({ engine: engine === 'ours' ? 'random-pruning' : 'PyTorch', ratio, runs });
  }
}

console.log(
  `| ResNet-20, ${epochs} epochs | engine | test accuracy % (n = ${seeds.length}) | training loss |`,
);
console.log('|---|---|---|---|');
for (const { engine, ratio, runs } of series) {
  const last = runs.map((run) => run.at(-1));
  const accuracies = last.map(({ test_accuracy }) => test_accuracy);
  console.log(
    `| ${ratio.title} | ${engine} | ${percent(mean(accuracies))} ± ${percent(deviation(accuracies))} | ${mean(last.map(({ train_loss }) => train_loss)).toFixed(3)} |`,
  );
}

/** Mean test accuracy by epoch, the seeds' range shaded. */
function drawCurves() {
  const [width, height, left, top, right, bottom] = [640, 360, 48, 16, 190, 40];
  const colours = ['#1b6ca8', '#8fbbdb', '#b8472a', '#e3a58f'];
  const x = (epoch) => left + ((epoch - 1) / Math.max(1, epochs - 1)) * (width - left - right);
  const y = (accuracy) => height - bottom - accuracy * (height - top - bottom);
  const points = (values) =>
    values.map((value, i) => `${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
  const parts = [0, 0.2, 0.4, 0.6, 0.8, 1].map(
    (a) =>
      `<line x1="${left}" x2="${width - right}" y1="${y(a)}" y2="${y(a)}" stroke="#ddd"/><text x="${left - 6}" y="${y(a) + 4}" text-anchor="end">${100 * a}</text>`,
  );
  for (const [i, { engine, ratio, runs }] of series.entries()) {
    const at = (pick) =>
      Array.from({ length: epochs }, (_, e) => pick(runs.map((run) => run[e].test_accuracy)));
    const low = at((v) => Math.min(...v));
    const high = at((v) => Math.max(...v));
    const band = `${points(high)} ${points(low).split(' ').reverse().join(' ')}`;
    parts.push(`<polygon points="${band}" fill="${colours[i]}" opacity="0.15"/>`);
    parts.push(
      `<polyline points="${points(at(mean))}" fill="none" stroke="${colours[i]}" stroke-width="2"/>`,
    );
    parts.push(
      `<text x="${width - right + 12}" y="${top + 24 + 20 * i}" fill="${colours[i]}">${engine}, ${ratio.title}</text>`,
    );
  }
  parts.push(`<text x="${(left + width - right) / 2}" y="${height - 8}" text-anchor="middle">epoch</text>`);
  parts.push(`<text x="${left}" y="12">test accuracy % (mean; band: range of ${seeds.length} seeds)</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>${parts.join('')}</svg>\n`;
}
writeFileSync(join(options.out, 'curves.svg'), drawCurves());

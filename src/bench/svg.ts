/** Charts as SVG text: lines over a logarithmic y axis, and bars with quartiles. No dependencies, no styles from outside. */

const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#8c6d31'];
const WIDTH = 760;
const HEIGHT = 400;
const MARGIN = { left: 64, right: 220, top: 44, bottom: 56 };
const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;

const escaped = (text: string) =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
const fixed = (value: number) => String(Number(value.toFixed(2)));

interface TextStyle {
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly size?: number;
  readonly rotate?: number;
}

function text(
  x: number,
  y: number,
  content: string,
  { anchor = 'start', size = 12, rotate }: TextStyle = {},
) {
  const turned = rotate === undefined ? '' : ` transform="rotate(${rotate} ${fixed(x)} ${fixed(y)})"`;
  return `<text x="${fixed(x)}" y="${fixed(y)}" font-size="${size}" text-anchor="${anchor}"${turned}>${escaped(content)}</text>`;
}

const line = (x1: number, y1: number, x2: number, y2: number, stroke: string) =>
  `<line x1="${fixed(x1)}" y1="${fixed(y1)}" x2="${fixed(x2)}" y2="${fixed(y2)}" stroke="${stroke}"/>`;

function frame(title: string, yLabel: string, body: readonly string[], height = HEIGHT): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN.left, 24, title, { size: 15 }),
    text(16, MARGIN.top + plotHeight / 2, yLabel, {
      anchor: 'middle',
      rotate: -90,
    }),
    ...body,
    '</svg>\n',
  ].join('\n');
}

function legend(names: readonly string[]): string[] {
  return names.flatMap((name, i) => {
    const y = MARGIN.top + 8 + 18 * i;
    const x = WIDTH - MARGIN.right + 16;
    return [
      `<rect x="${x}" y="${y - 9}" width="10" height="10" fill="${COLOURS[i % COLOURS.length]}"/>`,
      text(x + 16, y, name, { size: 11 }),
    ];
  });
}

/** 1, 2, 5 times powers of ten that span [low, high]. */
export function logTicks(low: number, high: number): number[] {
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const step of [1, 2, 5]) all.push(Number((step * 10 ** power).toPrecision(6)));
  }
  const from = all.findLastIndex((tick) => tick <= low);
  const to = all.findIndex((tick) => tick >= high);
  return all.slice(Math.max(0, from), to + 1);
}

/** Round steps from 0 to at least `high`. */
export function linearTicks(high: number): number[] {
  const power = 10 ** Math.floor(Math.log10(high / 5));
  const step = [1, 2, 5, 10].map((times) => times * power).find((value) => value * 6 >= high)!;
  return Array.from({ length: Math.ceil(high / step - 1e-9) + 1 }, (_, i) =>
    Number((i * step).toPrecision(6)),
  );
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** Spaced evenly, in this order. */
  readonly xs: readonly (string | number)[];
  /** One value for each x; null: none. */
  readonly series: readonly { readonly name: string; readonly ys: readonly (number | null)[] }[];
}

/** Lines over a logarithmic y axis; a line at 1 where it is in range. */
export function lineChart({ title, xLabel, yLabel, xs, series }: LineChart): string {
  const values = series.flatMap(({ ys }) => ys.filter((y): y is number => y !== null && y > 0));
  if (values.length === 0) return frame(title, yLabel, []);
  const ticks = logTicks(Math.min(...values), Math.max(...values));
  const [low, high] = [Math.log(ticks[0]!), Math.log(ticks.at(-1)!)];
  const px = (i: number) => MARGIN.left + (plotWidth * (i + 0.5)) / xs.length;
  const py = (y: number) => MARGIN.top + plotHeight * (1 - (Math.log(y) - low) / Math.max(high - low, 1e-9));
  const body = ticks.flatMap((tick) => [
    line(MARGIN.left, py(tick), MARGIN.left + plotWidth, py(tick), tick === 1 ? '#444444' : '#dddddd'),
    text(MARGIN.left - 6, py(tick) + 4, String(tick), { anchor: 'end', size: 11 }),
  ]);
  for (const [i, x] of xs.entries()) {
    body.push(text(px(i), MARGIN.top + plotHeight + 18, String(x), { anchor: 'middle', size: 11 }));
  }
  body.push(text(MARGIN.left + plotWidth / 2, HEIGHT - 14, xLabel, { anchor: 'middle' }));
  for (const [s, { ys }] of series.entries()) {
    const colour = COLOURS[s % COLOURS.length]!;
    const points = ys.flatMap((y, i) => (y !== null && y > 0 ? [[px(i), py(y)] as const] : []));
    const path = points.map(([x, y]) => `${fixed(x)},${fixed(y)}`).join(' ');
    body.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const [x, y] of points)
      body.push(`<circle cx="${fixed(x)}" cy="${fixed(y)}" r="3" fill="${colour}"/>`);
  }
  return frame(title, yLabel, [...body, ...legend(series.map(({ name }) => name))]);
}

export interface BarChart {
  readonly title: string;
  readonly yLabel: string;
  readonly bars: readonly {
    readonly name: string;
    readonly value: number;
    /** Quartiles, drawn as a whisker. */
    readonly low: number;
    readonly high: number;
    /** Bars of one group share a colour. */
    readonly group: string;
  }[];
}

/** Bars from zero. */
export function barChart({ title, yLabel, bars }: BarChart): string {
  if (bars.length === 0) return frame(title, yLabel, []);
  const ticks = linearTicks(Math.max(...bars.map(({ high, value }) => Math.max(high, value))));
  const top = ticks.at(-1)!;
  const py = (y: number) => MARGIN.top + plotHeight * (1 - y / top);
  const groups = [...new Set(bars.map(({ group }) => group))];
  const body = ticks.flatMap((tick) => [
    line(MARGIN.left, py(tick), MARGIN.left + plotWidth, py(tick), '#dddddd'),
    text(MARGIN.left - 6, py(tick) + 4, String(tick), { anchor: 'end', size: 11 }),
  ]);
  const slot = plotWidth / bars.length;
  for (const [i, { name, value, low, high, group }] of bars.entries()) {
    const x = MARGIN.left + slot * (i + 0.15);
    const middle = MARGIN.left + slot * (i + 0.5);
    const colour = COLOURS[groups.indexOf(group) % COLOURS.length];
    body.push(
      `<rect x="${fixed(x)}" y="${fixed(py(value))}" width="${fixed(slot * 0.7)}" height="${fixed(py(0) - py(value))}" fill="${colour}"/>`,
      line(middle, py(low), middle, py(high), '#444444'),
      text(middle + 4, MARGIN.top + plotHeight + 14, name, { anchor: 'end', size: 11, rotate: -35 }),
    );
  }
  return frame(title, yLabel, [...body, ...legend(groups)], HEIGHT + 90);
}

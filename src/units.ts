/** Quantities as people read them, and names as files bear them. */

/** 1536000 → 1.54 MB. */
export function bytesText(bytes: number): string {
  const unit = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(unit.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${unit[power]}`;
}

/** "AMD EPYC 9R14 96-Core Processor" → "amd-epyc-9r14-96-core-processor". */
export function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

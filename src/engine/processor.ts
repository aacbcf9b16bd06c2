import { readFileSync } from 'node:fs';
import os from 'node:os';

/**
 * What this machine's measurements are kept under: "Apple M2", or where Linux says more, "AMD EPYC (family 26, model
 * 2)", since virtual machines call quite different processors by one name.
 *
 * @param cpuinfo text of Linux's /proc/cpuinfo, empty elsewhere
 */
export function processorName(cpuinfo = readCpuinfo()): string {
  const name = os.cpus()[0]?.model.trim() || 'unknown processor';
  const field = (key: string) => new RegExp(`^${key}\\s*: (\\d+)$`, 'm').exec(cpuinfo)?.[1];
  const family = field('cpu family');
  const model = field('model');
  return family && model ? `${name} (family ${family}, model ${model})` : name;
}

function readCpuinfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}

import { cpus, loadavg, totalmem } from 'node:os';

/** What the figures were measured on, and how busy it was when the run began: a run beside other work means little. */
export function machineData(): {
  readonly cpus: number;
  readonly model: string | undefined;
  readonly memoryBytes: number;
  readonly node: string;
  readonly loadBefore: number;
} {
  const [lastMinute = 0] = loadavg();
  return {
    cpus: cpus().length,
    model: cpus()[0]?.model,
    memoryBytes: totalmem(),
    node: process.version,
    loadBefore: lastMinute,
  };
}

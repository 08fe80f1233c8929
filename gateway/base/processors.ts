import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

const CGROUPS = '/sys/fs/cgroup';
/** Levels of control groups that are looked at; systems have a handful. */
const MOST_LEVELS = 32;

/** What is looked at; tests have their own. */
export interface ProcessorSources {
  /** Processors that this process may run on. */
  readonly parallelism: () => number;
  /** The text of a file; throws when there is none. */
  readonly read: (path: string) => string;
}

const SYSTEM: ProcessorSources = {
  parallelism: availableParallelism,
  read: (path) => readFileSync(path, 'latin1'),
};

/**
 * How many processors this process has the time of, at least 1: those it may run on, or fewer where a control group of it (a container's, a systemd
 * unit's CPUQuota) gives it less time than that, which `availableParallelism` does not look at. Part of a processor is none that could be left to a thread.
 */
export function usableProcessors({ parallelism, read }: ProcessorSources = SYSTEM): number {
  const quotas = groupsOf(read).flatMap(({ directory, version }) => {
    const quota = version === 2 ? quotaOf2(read, directory) : quotaOf1(read, directory);
    return quota === undefined ? [] : [quota];
  });
  return Math.max(1, Math.floor(Math.min(parallelism(), ...quotas)));
}

interface Group {
  readonly directory: string;
  readonly version: 1 | 2;
}

/** The groups that bound the process, from its own up to the root: any of them may have the smallest quota (cgroups(7), /proc/[pid]/cgroup). */
function groupsOf(read: ProcessorSources['read']): readonly Group[] {
  const lines = textOf(read, '/proc/self/cgroup')?.split('\n') ?? [];
  return lines.flatMap((line): readonly Group[] => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === '') return [];
    if (controllers === '') return levels(CGROUPS, path).map((directory) => ({ directory, version: 2 }));
    if (!controllers.split(',').includes('cpu')) return [];
    return levels(join(CGROUPS, 'cpu'), path).map((directory) => ({ directory, version: 1 }));
  });
}

function levels(root: string, path: string): readonly string[] {
  const found: string[] = [];
  for (let at = path; found.length < MOST_LEVELS; at = dirname(at)) {
    found.push(join(root, at));
    if (at === '/') break;
  }
  return found;
}

/** "max 100000" or microseconds of the period, each period. */
function quotaOf2(read: ProcessorSources['read'], directory: string): number | undefined {
  const [, quota, period] = /^(\d+) (\d+)/.exec(textOf(read, join(directory, 'cpu.max')) ?? '') ?? [];
  return ratio(quota, period);
}

/** -1: no quota. */
function quotaOf1(read: ProcessorSources['read'], directory: string): number | undefined {
  const quota = /^\d+/.exec(textOf(read, join(directory, 'cpu.cfs_quota_us')) ?? '')?.[0];
  return ratio(quota, /^\d+/.exec(textOf(read, join(directory, 'cpu.cfs_period_us')) ?? '')?.[0]);
}

function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const value = Number(quota) / Number(period);
  return Number.isFinite(value) && value > 0 ? value : undefined;
}

/** undefined where there is no such file: another system, or a group without this controller. */
function textOf(read: ProcessorSources['read'], path: string): string | undefined {
  try {
    return read(path);
  } catch {
    return undefined;
  }
}

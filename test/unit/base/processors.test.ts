import { describe, expect, it } from 'vitest';
import { usableProcessors } from '../../../gateway/base/processors.ts';
import { leavesAProcessor } from '../../../gateway/threads/thread-parts.ts';

const count = (parallelism: number, files: Readonly<Record<string, string>>): number =>
  usableProcessors({
    parallelism: () => parallelism,
    read: (path) => {
      const text = files[path];
      if (text === undefined) throw new Error(`no ${path}`);
      return text;
    },
  });

describe('the processors that a process has the time of', () => {
  it('are those it may run on where there are no control groups, or none with a quota', () => {
    expect(count(4, {})).toBe(4);
    expect(count(4, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' })).toBe(4);
    const v1 = { '/proc/self/cgroup': '3:cpu,cpuacct:/\n0::/\n', '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n' };
    expect(count(4, { ...v1, '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' })).toBe(4);
  });

  it('are fewer in a container or unit with a quota, and no less than one', () => {
    const own = { '/proc/self/cgroup': '0::/\n' };
    expect(count(8, { ...own, '/sys/fs/cgroup/cpu.max': '200000 100000\n' })).toBe(2);
    expect(count(8, { ...own, '/sys/fs/cgroup/cpu.max': '250000 100000\n' })).toBe(2);
    expect(count(8, { ...own, '/sys/fs/cgroup/cpu.max': '50000 100000\n' })).toBe(1);
    expect(count(1, { ...own, '/sys/fs/cgroup/cpu.max': '800000 100000\n' })).toBe(1);
  });

  it('are bounded by the smallest quota of all the groups the process is in, one within the other', () => {
    const files = {
      '/proc/self/cgroup': '0::/system.slice/farshore.service\n',
      '/sys/fs/cgroup/system.slice/cpu.max': '300000 100000\n',
      '/sys/fs/cgroup/system.slice/farshore.service/cpu.max': 'max 100000\n',
    };
    expect(count(16, files)).toBe(3);
    const v1 = {
      '/proc/self/cgroup': '7:cpuset:/\n4:cpu,cpuacct:/docker/abc\n',
      '/sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us': '600000\n',
      '/sys/fs/cgroup/cpu/docker/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us': '200000\n',
      '/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us': '100000\n',
    };
    expect(count(16, v1)).toBe(2);
  });
});

describe('a gateway whose threads take all processors', () => {
  it('is one with several threads and no processor more than these; a single thread has always had the first claim', () => {
    const left = [1, 2, 4].map((processors) => [1, 2, 3].map((threads) => leavesAProcessor(threads, processors)));
    expect(left).toEqual([
      [true, false, false],
      [true, false, false],
      [true, true, true],
    ]);
  });
});

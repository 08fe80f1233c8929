import { statfs } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { Clock, Random } from './base/clock.ts';
import type { Disk } from './base/disk.ts';
import { describeError, isKind } from './base/errors.ts';
import { formatDuration, formatSize } from './base/size.ts';
import type { ByteCount } from './base/units.ts';
import type { Finding } from './admin/gateway-api.ts';
import type { ObjectStore } from './cloud/object-store.ts';
import type { VersionLog } from './cloud/version-log.ts';
import type { Settings } from './config.ts';

export interface DoctorDeps {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly store: ObjectStore;
  readonly table: VersionLog;
  /** The cloud's idea of the time, from the Date header of a response; undefined when it cannot be had. */
  readonly cloudTime: () => Promise<number | undefined>;
  readonly cacheAllocatedBytes: () => ByteCount;
}

/** SigV4 refuses requests that are off by more than five minutes. */
const MAX_CLOCK_SKEW_MS = 60_000;
const SLOW_FSYNC_MS = 50;
const FSYNC_ROUNDS = 5;

/** Runs every check, whatever the others say; each finding says what was seen and how to mend it. */
export async function examine(deps: DoctorDeps): Promise<Finding[]> {
  return [
    configuration(deps),
    await disk(deps),
    await room(deps),
    await clock(deps),
    await bucket(deps),
    await table(deps),
  ];
}

function configuration({ settings }: DoctorDeps): Finding {
  const open = settings.portals.filter((portal) => !/^(127\.|::1$)/.test(portal.host));
  return open.length > 0
    ? finding(
        'config',
        'warn',
        `portals ${open.map((portal) => portal.host).join(', ')} are not loopback: volumes are denied there until access is configured`,
      )
    : finding('config', 'pass', `${settings.iqn}, state in ${settings.stateDir}`);
}

/** A small file is written and synced a few times: what a flush costs. */
async function disk({ disk: storage, clock: time }: DoctorDeps): Promise<Finding> {
  const path = 'doctor.tmp';
  try {
    await storage.remove(path);
    const file = await storage.open(path, 'create');
    const times: number[] = [];
    try {
      for (let round = 0; round < FSYNC_ROUNDS; round++) {
        const start = time.monotonicMs();
        await file.write([Buffer.alloc(4096, round)], 0);
        await file.sync();
        times.push(time.monotonicMs() - start);
      }
    } finally {
      await file.close();
      await storage.remove(path);
    }
    const median = times.sort((a, b) => a - b)[FSYNC_ROUNDS >> 1] ?? 0;
    return median > SLOW_FSYNC_MS
      ? finding(
          'disk',
          'warn',
          `a 4 KiB fdatasync takes ${formatDuration(median)}; flushes of the initiators will be slow: use an SSD for stateDir`,
        )
      : finding('disk', 'pass', `a 4 KiB fdatasync takes ${median.toFixed(1)} ms`);
  } catch (error) {
    return finding('disk', 'fail', `the state directory cannot be written: ${describeError(error)}`);
  }
}

async function room({ settings, cacheAllocatedBytes }: DoctorDeps): Promise<Finding> {
  const { bavail, bsize } = await statfs(settings.stateDir);
  const free = bavail * bsize;
  const wanted = Math.max(0, settings.cacheBytes - cacheAllocatedBytes());
  return free < wanted
    ? finding(
        'room',
        'warn',
        `${formatSize(free)} are free, but the cache may still grow by ${formatSize(wanted)}; lower cache.size or free space`,
      )
    : finding('room', 'pass', `${formatSize(free)} free for a cache that may grow by ${formatSize(wanted)}`);
}

async function clock({ clock: time, cloudTime }: DoctorDeps): Promise<Finding> {
  const cloud = await cloudTime();
  if (cloud === undefined)
    return finding('clock', 'warn', 'the time of the cloud could not be read; see the bucket check');
  const skew = Math.abs(time.now() - cloud);
  return skew > MAX_CLOCK_SKEW_MS
    ? finding(
        'clock',
        'fail',
        `this clock and the cloud's differ by ${formatDuration(skew)}; requests are refused at five minutes: run NTP (chrony)`,
      )
    : finding('clock', 'pass', `within ${formatDuration(Math.max(1000, skew))} of the cloud's`);
}

/** Lists, writes, reads back and removes a probe object; credentials show here first. */
async function bucket({ store, random, settings }: DoctorDeps): Promise<Finding> {
  const key = `doctor/${random.bytes(8).toString('hex')}`;
  const body = Buffer.from('farshore');
  try {
    await store.put(key, [body], crc32(body));
    const back = await store.get(key);
    await store.delete([key]);
    return back?.equals(body) === true
      ? finding('bucket', 'pass', `${settings.cloud.bucket}: written, read back and removed a probe`)
      : finding(
          'bucket',
          'fail',
          `${settings.cloud.bucket}: a probe was written but did not read back; is this really S3?`,
        );
  } catch (error) {
    return finding('bucket', 'fail', remedy(error, 'cloud.s3Endpoint'));
  }
}

async function table({ table: log, settings }: DoctorDeps): Promise<Finding> {
  try {
    const names = await log.listNames();
    return finding('table', 'pass', `${settings.cloud.table}: ${names.length} volume${names.length === 1 ? '' : 's'}`);
  } catch (error) {
    return finding('table', 'fail', remedy(error, 'cloud.dynamodbEndpoint'));
  }
}

function remedy(error: unknown, key: string): string {
  const text = describeError(error);
  return isKind(error, 'retry') ? `${text.replace(/\.$/, '')}; is the network up, and ${key} right?` : text;
}

function finding(check: string, verdict: Finding['verdict'], detail: string): Finding {
  return { check, verdict, detail };
}

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { isKind } from '../../../gateway/base/errors.ts';
import { silentLog } from '../../../gateway/base/log.ts';
import type { VersionItem, VersionLog, VolumeItem, VolumeRef } from '../../../gateway/cloud/version-log.ts';
import type { TailRecord } from '../../../gateway/maintenance/walk.ts';
import type { FenceDeps } from '../../../gateway/replication/fence-takeover.ts';
import { VersionWriter } from '../../../gateway/replication/version-writer.ts';
import type { VersionFields } from '../../../gateway/replication/version-writer.ts';
import { SimClock } from '../../sim/sim-clock.ts';
import { HEALTHY_CLOUD, SimCloud } from '../../sim/sim-cloud.ts';
import type { CloudFaults } from '../../sim/sim-cloud.ts';
import { SimRandom } from '../../sim/sim-random.ts';

export const REF: VolumeRef = { lineage: 'lineage-1', volume: 'volume-1' };

const VOLUME: VolumeItem = {
  ...REF,
  name: 'v',
  bytes: 1 << 30,
  sectorSize: 512,
  replication: 'async',
  targetName: 'iqn.2026-11.dev.farshore:test:v',
  naa: Buffer.alloc(16, 6),
  createdAt: 1,
  epoch: 0,
  owner: '',
  floor: 0,
  checkpoint: undefined,
  maintenanceEpoch: 0,
  retainedFrom: 0,
  deletedAt: undefined,
};

/** One call of the log, as a test may watch or bend it before it goes on its way. */
export interface Call {
  readonly method: keyof VersionLog;
  readonly item?: VersionItem;
}

/** A volume in the simulated cloud, and gateways that write it. */
export class FenceWorld {
  readonly random: SimRandom;
  readonly clock: SimClock;
  readonly cloud: SimCloud;

  constructor(seed: number) {
    this.random = new SimRandom(seed);
    this.clock = new SimClock(this.random.split('clock'));
    this.cloud = new SimCloud(this.clock, this.random.split('cloud'));
    this.cloud.table.createVolume(VOLUME);
  }

  gateway(name: string, faults: Partial<CloudFaults> = {}): TestGateway {
    return new TestGateway(this, name, { ...HEALTHY_CLOUD, ...faults });
  }

  /** What a reader finds, by the stored chain alone: the test's own walk, over the table as it is. */
  history(from = 0): VersionItem[] {
    const found: VersionItem[] = [];
    let epoch = 0;
    for (let n = from + 1; ; n += 1) {
      const item = this.cloud.table.getVersion(REF.volume, n);
      if (!item || item.epoch < epoch) return found;
      epoch = item.epoch;
      found.push(item);
    }
  }
}

export class TestGateway {
  readonly name: string;
  readonly faults: CloudFaults;
  readonly calls: Call[] = [];
  readonly life: { name: string; alive: boolean };
  readonly deps: FenceDeps;
  walked: TailRecord[] = [];
  restarts = 0;
  readonly #world: FenceWorld;

  constructor(world: FenceWorld, name: string, faults: CloudFaults) {
    this.#world = world;
    this.name = name;
    this.faults = faults;
    this.life = { name, alive: true };
    const { log } = world.cloud.connect(this.life, faults);
    this.deps = {
      versions: watched(log, this.calls),
      clock: world.clock.forLife(this.life, 0),
      random: world.random.split(name),
      log: silentLog,
    };
  }

  /** Under way; settle it with the clock. */
  takeOver(signal?: AbortSignal): Promise<VersionWriter> {
    return VersionWriter.takeOver(this.deps, {
      ref: REF,
      gateway: this.name,
      logId: `log-${this.name}`,
      onRestart: () => {
        this.restarts += 1;
        this.walked = [];
      },
      onRecord: (tail) => {
        this.walked.push(tail);
      },
      ...(signal ? { signal } : {}),
    });
  }

  /** Takes over, again when it gave up for the cloud's sake. */
  async open(): Promise<VersionWriter> {
    for (;;) {
      try {
        return await this.#world.clock.settle(this.takeOver());
      } catch (error) {
        if (!isKind(error, 'retry')) throw error;
      }
    }
  }

  count(method: keyof VersionLog): number {
    return this.calls.filter((call) => call.method === method).length;
  }
}

/** A version with inline bytes, which need no S3. */
export function inlineVersion(text: string, throughSeq: number): { fields: VersionFields; inline: Buffer } {
  const inline = Buffer.from(text);
  const digest = createHash('sha256').update(inline).digest();
  return {
    fields: {
      kind: 'write',
      payload: { kind: 'inline', bytes: inline.length, crc32: crc32(inline), digest },
      throughSeq,
      blocks: 1,
      bytes: inline.length,
      newestWriteAt: throughSeq,
      volumeBytes: VOLUME.bytes,
    },
    inline,
  };
}

/** What became of a promise, for assertions. */
export function outcomeOf(promise: Promise<void>): { readonly state: string } {
  const outcome = { state: 'pending' };
  promise.then(
    () => {
      outcome.state = 'done';
    },
    (error: unknown) => {
      outcome.state = error instanceof Error && 'kind' in error ? String(error.kind) : String(error);
    },
  );
  return outcome;
}

function watched(log: VersionLog, calls: Call[]): VersionLog {
  return new Proxy(log, {
    get: (target, method: keyof VersionLog) => {
      const original: unknown = Reflect.get(target, method);
      if (typeof original !== 'function') return original;
      return (...parameters: unknown[]): unknown => {
        calls.push(method === 'putVersion' ? { method, item: parameters[1] as VersionItem } : { method });
        return Reflect.apply(original, target, parameters);
      };
    },
  });
}

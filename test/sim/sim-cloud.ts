import { FarshoreError } from '../../gateway/base/errors.ts';
import type { ObjectStore } from '../../gateway/cloud/object-store.ts';
import type { VersionItem, VersionLog } from '../../gateway/cloud/version-log.ts';
import { MemoryObjects } from './memory-objects.ts';
import { MemoryTable } from './memory-table.ts';
import type { Life, SimClock } from './sim-clock.ts';
import type { SimRandom } from './sim-random.ts';

/** Chances per request; what is left is a plain success. */
export interface CloudFaults {
  /** 5xx, nothing done. */
  errorBefore: number;
  /** Done, but the answer is lost. */
  lostResponse: number;
  /** The client gives up; the request lands later, perhaps after the client is dead. */
  lateEffect: number;
  /** The SDK gives up on a first attempt, which may land at any later time, and answers with what the second one met. */
  hiddenRetry: number;
  /** One way, in milliseconds. */
  delayMs: number;
  /** Nothing gets through. */
  partitioned: boolean;
}

export const HEALTHY_CLOUD: CloudFaults = {
  errorBefore: 0,
  lostResponse: 0,
  lateEffect: 0,
  hiddenRetry: 0,
  delayMs: 4,
  partitioned: false,
};

/** How long a client waits for an answer. */
const TIMEOUT_MS = 2000;
/** A stray request can land this long after it was sent. */
const STRAY_MS = 60_000;

export interface CloudPorts {
  readonly store: ObjectStore;
  readonly log: VersionLog;
}

/** One call of a port: `act` is the request's effect, an instant in the region. */
type Call = <T>(label: string, act: () => T) => Promise<T>;

type FailurePoint = 'none' | 'errorBefore' | 'lostResponse' | 'lateEffect' | 'hiddenRetry';

/** One region: what is stored in it is consistent at every instant; only the way there and back is not. */
export class SimCloud {
  readonly objects: MemoryObjects;
  readonly table: MemoryTable;
  readonly #clock: SimClock;
  readonly #random: SimRandom;

  /** With `copied` it starts as that cloud is now, and goes its own way from there. */
  constructor(clock: SimClock, random: SimRandom, copied?: SimCloud) {
    this.#clock = clock;
    this.#random = random;
    this.objects = new MemoryObjects(copied?.objects);
    this.table = new MemoryTable(copied?.table);
  }

  /** The cloud as one process sees it, through its own network. */
  connect(life: Life, faults: CloudFaults): CloudPorts {
    const network = new Network(life, faults, this.#clock, this.#random);
    return this.#ports((label, act) => network.call(label, act));
  }

  /** The cloud next door: no faults, and no virtual time passes. For checkers. */
  connectAtOnce(): CloudPorts {
    return this.#ports((_label, act) => Promise.resolve().then(act));
  }

  #ports(call: Call): CloudPorts {
    return { store: storeOver(call, this.objects), log: logOver(call, this.table) };
  }
}

class Network {
  readonly #life: Life;
  readonly #faults: CloudFaults;
  readonly #clock: SimClock;
  readonly #random: SimRandom;

  constructor(life: Life, faults: CloudFaults, clock: SimClock, random: SimRandom) {
    this.#life = life;
    this.#faults = faults;
    this.#clock = clock;
    this.#random = random;
  }

  call<T>(label: string, act: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#life.alive) return;
      const name = `${this.#life.name} ${label}`;
      const fail = (why: string, afterMs: number): void => {
        this.#clock.schedule(afterMs, `${name} ${why}`, this.#life, () => {
          reject(new FarshoreError('retry', `${label}: ${why}`));
        });
      };
      // A request that is under way lands whether or not its sender lives; answers reach only the living.
      const attempt = (sendMs: number, lostAnswer: boolean): void => {
        this.#clock.schedule(sendMs, name, undefined, () => {
          let settle: () => void;
          try {
            const value = act();
            settle = () => {
              resolve(value);
            };
          } catch (error) {
            settle = () => {
              reject(error instanceof Error ? error : new Error(String(error)));
            };
          }
          if (lostAnswer) return;
          if (this.#faults.partitioned) fail('the answer was lost', TIMEOUT_MS);
          else this.#clock.schedule(this.#oneWay(), `${name} answered`, this.#life, settle);
        });
      };
      if (this.#faults.partitioned) {
        fail('no route', this.#random.chance(0.5) ? this.#oneWay() : TIMEOUT_MS);
        return;
      }
      switch (this.#fault()) {
        case 'none':
          attempt(this.#oneWay(), false);
          return;
        case 'errorBefore':
          fail('503', this.#oneWay() * 2);
          return;
        case 'lostResponse':
          attempt(this.#oneWay(), true);
          fail('the answer was lost', this.#random.chance(0.5) ? this.#oneWay() * 3 : TIMEOUT_MS);
          return;
        case 'lateEffect':
          attempt(this.#stray(), true);
          fail('timed out', this.#random.chance(0.5) ? this.#oneWay() : TIMEOUT_MS);
          return;
        case 'hiddenRetry':
          attempt(this.#random.chance(0.5) ? this.#oneWay() : this.#stray(), true);
          attempt(this.#oneWay() * 3, false);
          return;
      }
    });
  }

  #fault(): FailurePoint {
    const { errorBefore, lostResponse, lateEffect, hiddenRetry } = this.#faults;
    const trouble = errorBefore + lostResponse + lateEffect + hiddenRetry;
    if (trouble === 0) return 'none';
    return this.#random.weighted({
      errorBefore,
      lostResponse,
      lateEffect,
      hiddenRetry,
      none: Math.max(0, 1 - trouble),
    });
  }

  #oneWay(): number {
    const tail = this.#random.chance(0.05) ? 10 : 1;
    return this.#faults.delayMs * (0.3 + this.#random.fraction() * 1.4) * tail;
  }

  /** Mostly soon, sometimes much later. */
  #stray(): number {
    return this.#random.chance(0.7) ? TIMEOUT_MS * this.#random.fraction() * 2 : STRAY_MS * this.#random.fraction();
  }
}

function storeOver(call: Call, objects: MemoryObjects): ObjectStore {
  return {
    put: (key, pieces, crc32) => {
      const body = Buffer.concat(pieces);
      return call(`PUT ${key}`, () => objects.put(key, body, crc32));
    },
    get: (key, range) => call(`GET ${key}`, () => objects.get(key, range)),
    head: (key) => call(`HEAD ${key}`, () => objects.head(key)),
    list: (prefix, limit, startAfter) => call(`LIST ${prefix}`, () => objects.list(prefix, limit, startAfter)),
    delete: (keys) => {
      const gone = [...keys];
      return call(`DELETE ${gone.length} objects`, () => {
        objects.delete(gone);
      });
    },
  };
}

function logOver(call: Call, table: MemoryTable): VersionLog {
  return {
    getVolume: (ref) => call('getVolume', () => table.getVolume(ref)),
    createVolume: (item) => call(`createVolume ${item.volume}`, () => table.createVolume(item)),
    listVolumes: (lineage) => call('listVolumes', () => table.listVolumes(lineage)),
    raiseEpoch: (ref, from, to, owner) =>
      call(`raiseEpoch ${from}>${to}`, () => table.raiseEpoch(ref, from, to, owner)),
    changeVolume: (ref, epoch, changes) => call('changeVolume', () => table.changeVolume(ref, epoch, changes)),
    raiseMaintenanceEpoch: (ref, from) =>
      call(`raiseMaintenanceEpoch ${from}`, () => table.raiseMaintenanceEpoch(ref, from)),
    publishCheckpoint: (ref, pointer) =>
      call(`publishCheckpoint n=${pointer.n}`, () => table.publishCheckpoint(ref, pointer)),
    raiseFloor: (ref, floor, maintenanceEpoch) =>
      call(`raiseFloor ${floor}`, () => table.raiseFloor(ref, floor, maintenanceEpoch)),
    removeVolume: (ref, epoch) => call('removeVolume', () => table.removeVolume(ref, epoch)),
    getAccess: (ref) => call('getAccess', () => table.getAccess(ref)),
    putAccess: (ref, item) => {
      const sent = { ...item, body: Buffer.from(item.body) };
      return call(`putAccess revision=${item.revision} epoch=${item.epoch}`, () => table.putAccess(ref, sent));
    },
    removeAccess: (ref, epoch) => call('removeAccess', () => table.removeAccess(ref, epoch)),
    putVersion: (volume, item, previousEpoch) => {
      const sent = copyItem(item);
      return call(`putVersion n=${item.n} epoch=${item.epoch} over<${previousEpoch}`, () =>
        table.putVersion(volume, sent, previousEpoch),
      );
    },
    getVersion: (volume, n) => call(`getVersion ${n}`, () => table.getVersion(volume, n)),
    listVersions: (volume, from, limit) => call(`listVersions ${from}`, () => table.listVersions(volume, from, limit)),
    deleteVersions: (volume, ns) => {
      const gone = [...ns];
      return call(`deleteVersions ${gone.join(' ')}`, () => {
        table.deleteVersions(volume, gone);
      });
    },
    allocateNumbers: (ref, epoch, count) =>
      call(`allocateNumbers ${count}`, () => table.allocateNumbers(ref, epoch, count)),
    claimName: (name, ref) => call(`claimName ${name}`, () => table.claimName(name, ref)),
    resolveName: (name) => call(`resolveName ${name}`, () => table.resolveName(name)),
    rebindName: (name, from, to) => call(`rebindName ${name}`, () => table.rebindName(name, from, to)),
    releaseName: (name, ref) => call(`releaseName ${name}`, () => table.releaseName(name, ref)),
    listNames: () => call('listNames', () => table.listNames()),
    beat: (beat) => call(`beat ${beat.gateway}`, () => table.beat(beat)),
    notify: (gateway, notice) =>
      call(`notify ${gateway}`, () => {
        table.notify(gateway, notice);
      }),
    clearNotices: (gateway, notices) => {
      const gone = [...notices];
      return call(`clearNotices ${gateway}`, () => {
        table.clearNotices(gateway, gone);
      });
    },
  };
}

function copyItem(item: VersionItem): VersionItem {
  return {
    ...item,
    record: Buffer.from(item.record),
    chain: Buffer.from(item.chain),
    inline: Buffer.from(item.inline),
  };
}

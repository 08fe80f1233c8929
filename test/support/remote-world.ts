import type { FarshoreError } from '../../gateway/base/errors.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { BLOCK_SIZE } from '../../gateway/base/units.ts';
import type { ObjectStore } from '../../gateway/cloud/object-store.ts';
import type { VersionLog, VolumeItem } from '../../gateway/cloud/version-log.ts';
import type { Compression } from '../../gateway/format/compression.ts';
import { rawCompression } from '../../gateway/format/compression.ts';
import type { MaintenanceDeps } from '../../gateway/maintenance/maintenance-deps.ts';
import type { EngineSettings } from '../../gateway/replication/engine-settings.ts';
import { RemoteVolumeEngine } from '../../gateway/replication/remote-volume-engine.ts';
import type { CommitBatch, Committed, LogReader } from '../../gateway/replication/remote-volume.ts';
import { MemoryObjects } from '../sim/memory-objects.ts';
import { MemoryTable } from '../sim/memory-table.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { PromptClock } from './prompt-clock.ts';

export const REF = { lineage: 'lin', volume: 'vol' };

/** Called before and after the effect of each request; may throw to fail it, or wait. */
export interface Faults {
  before?: (request: string) => void | Promise<void>;
  after?: (request: string) => void | Promise<void>;
}

/** A cloud in memory, one volume in it, and as many gateways (engines) as a test likes. */
export class RemoteWorld {
  readonly objects = new MemoryObjects();
  readonly table = new MemoryTable();
  readonly clock = new PromptClock();
  readonly random = new SimRandom(7);
  readonly compression: Compression = rawCompression;
  readonly faults: Faults = {};
  readonly requests: string[] = [];
  readonly store: ObjectStore;
  readonly versions: VersionLog;

  constructor(bytes = 2 ** 30) {
    this.store = this.#ported(this.objects, ['put', 'get', 'head', 'list', 'delete'], (method, args) =>
      method === 'put' ? [args[0], Buffer.concat(args[1] as Buffer[]), args[2]] : args,
    ) as ObjectStore;
    const methods = Object.getOwnPropertyNames(MemoryTable.prototype).filter((name) => name !== 'constructor');
    this.versions = this.#ported(this.table, methods, (_, args) => args) as VersionLog;
    this.table.createVolume(volumeItem(bytes));
  }

  get maintenance(): MaintenanceDeps {
    const { store, versions, compression, clock, random } = this;
    return { store, versions, compression, clock, random, log: silentLog };
  }

  gateway(name = 'gw', settings: Partial<EngineSettings> = {}): TestGateway {
    const { store, versions, compression, clock, random } = this;
    const gateway: TestGateway = new TestGateway((reader, onFenced) => {
      const deps = { store, versions, reader, compression, clock, random, log: silentLog, onFenced };
      return new RemoteVolumeEngine(deps, settings);
    }, name);
    return gateway;
  }

  /** Requests made so far whose description starts so. */
  count(prefix: string): number {
    return this.requests.filter((request) => request.startsWith(prefix)).length;
  }

  #ported(target: object, methods: readonly string[], prepare: (method: string, args: unknown[]) => unknown[]): object {
    const port: Record<string, unknown> = {};
    for (const method of methods) {
      port[method] = async (...args: unknown[]): Promise<unknown> => {
        const request = `${method} ${describe(args)}`;
        this.requests.push(request);
        const prepared = prepare(method, args);
        await this.faults.before?.(request);
        const act = (target as Record<string, (...args: unknown[]) => unknown>)[method];
        const result = act?.call(target, ...prepared);
        await this.faults.after?.(request);
        return result;
      };
    }
    return port;
  }
}

function describe(args: readonly unknown[]): string {
  return args
    .map((arg) => {
      if (typeof arg === 'string' || typeof arg === 'number') return String(arg);
      if (typeof arg === 'object' && arg !== null && 'n' in arg) return `n=${String(arg.n)}`;
      return '';
    })
    .join(' ')
    .trim();
}

export function volumeItem(bytes: number): VolumeItem {
  return {
    ...REF,
    name: 'vol',
    bytes,
    sectorSize: 512,
    replication: 'async',
    targetName: 'iqn.2026-11.dev.farshore:t:vol',
    naa: Buffer.alloc(16, 6),
    createdAt: 1_767_225_600_000,
    epoch: 0,
    owner: '',
    floor: 0,
    checkpoint: undefined,
    maintenanceEpoch: 0,
    retainedFrom: 0,
    deletedAt: undefined,
  };
}

/** Block content that says where and what it is. */
export function blockOf(block: number, value: number): Buffer {
  const content = Buffer.alloc(BLOCK_SIZE);
  if (value === 0) return content;
  for (let at = 0; at < BLOCK_SIZE; at += 16) {
    content.writeDoubleLE(block, at);
    content.writeDoubleLE(value, at + 8);
  }
  return content;
}

/** What a batch writes: value 0 writes zeros. */
export interface TestBatch {
  readonly writes?: readonly (readonly [block: number, value: number])[];
  readonly unmaps?: readonly (readonly [block: number, count: number])[];
  readonly isAwaited?: boolean;
}

let nextLog = 0;

/** One engine with a cache log in memory. */
export class TestGateway {
  readonly engine: RemoteVolumeEngine;
  readonly name: string;
  readonly fenced: FarshoreError[] = [];
  readonly logBlocks = new Map<number, { readonly block: number; readonly seq: number; readonly content: Buffer }>();
  #seq = 0;
  #index = 0;
  readonly #logId: string;

  constructor(
    makeEngine: (reader: LogReader, onFenced: (error: FarshoreError) => void) => RemoteVolumeEngine,
    name: string,
  ) {
    this.name = name;
    nextLog += 1;
    this.#logId = `log-${name}-${nextLog}`;
    const reader: LogReader = {
      readBlocks: (places, blocks, seqs, into) => {
        const bad: number[] = [];
        places.forEach((place, at) => {
          const held = this.logBlocks.get(place);
          if (held === undefined || held.block !== blocks[at] || held.seq !== seqs[at]) bad.push(at);
          else held.content.copy(into, at * BLOCK_SIZE);
        });
        return Promise.resolve(bad);
      },
    };
    this.engine = makeEngine(reader, (error) => {
      this.fenced.push(error);
    });
  }

  get logId(): string {
    return this.#logId;
  }

  open(takeover = true): ReturnType<RemoteVolumeEngine['open']> {
    return this.engine.open({ ref: REF, takeover, gateway: this.name, lastEpoch: 0, logId: this.#logId });
  }

  /** The batch as the volume would pass it. */
  batch({ writes = [], unmaps = [], isAwaited = false }: TestBatch): CommitBatch {
    const ordered = [...new Map(writes)].sort((a, b) => a[0] - b[0]);
    this.#index += 1;
    const firstSeq = this.#seq + 1;
    const places = ordered.map(([block, value]) => {
      this.#seq += 1;
      this.logBlocks.set(this.#seq, { block, seq: this.#seq, content: blockOf(block, value) });
      return this.#seq;
    });
    if (places.length === 0) this.#seq += 1;
    return {
      index: this.#index,
      firstSeq,
      throughSeq: this.#seq,
      blocks: Float64Array.from(ordered, ([block]) => block),
      places: Float64Array.from(places),
      seqs: Float64Array.from(places),
      unmaps: Float64Array.from([...unmaps].sort((a, b) => a[0] - b[0]).flat()),
      newestWriteAt: 1_767_225_600_000 + this.#seq,
      isAwaited,
    };
  }

  commit(batch: TestBatch): Promise<Committed> {
    return this.engine.commit(this.batch(batch));
  }

  /** As the volume asks for another size: behind the batches before, with nothing but what it cuts off. */
  resize(volumeBytes: number, unmaps: readonly number[] = []): Promise<Committed> {
    const batch = this.batch({ unmaps: [] });
    this.#seq -= 1;
    const throughSeq = this.#seq;
    return this.engine.commit({
      ...batch,
      firstSeq: throughSeq,
      throughSeq,
      unmaps: Float64Array.from(unmaps),
      newestWriteAt: 0,
      volumeBytes,
    });
  }

  /** The value of each of `count` blocks; 0 for one never written. Checks that the content is that block's. */
  async values(block: number, count: number): Promise<number[]> {
    const { data, present } = await this.engine.read(block, count);
    let at = 0;
    return Array.from(present, (isPresent, index) => {
      if (isPresent === 0) return 0;
      const content = data.subarray(at, at + BLOCK_SIZE);
      at += BLOCK_SIZE;
      const value = content.readDoubleLE(8);
      if (!content.equals(blockOf(block + index, value))) throw new Error(`block ${block + index} has foreign content`);
      return value;
    });
  }
}

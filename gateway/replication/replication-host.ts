import { FarshoreError, invariant } from '../base/errors.ts';
import type { BlockCount, ByteCount } from '../base/units.ts';
import { MIB } from '../base/units.ts';
import type { CircuitReport } from '../cloud/circuit.ts';
import { meteredObjectStore, meteredVersionLog, newMeter } from '../cloud/metered.ts';
import type { ObjectStore } from '../cloud/object-store.ts';
import type { VersionLog, VolumeRef } from '../cloud/version-log.ts';
import { DEFAULT_FOLD_THRESHOLDS } from './engine-settings.ts';
import type { LeaseMember } from './lease.ts';
import { GatewayLease } from './lease.ts';
import type { EngineDeps } from './remote-volume-engine.ts';
import { PARALLEL_UPLOADS, RemoteVolumeEngine } from './remote-volume-engine.ts';
import type { CommitBatch, CopiesCommit, CopyBatch, LogReader, OpenRequest } from './remote-volume.ts';
import type { Answer, RpcPort } from './rpc.ts';
import { sendEvent, serveCalls, withBuffers } from './rpc.ts';
import { SegmentMemories } from './segment-memory.ts';
import { downloadingWithin, DownloadThrottle } from './download-throttle.ts';
import { unpackReadHow } from './remote-volume-proxy.ts';
import type { Direction, LineRate } from './throttle.ts';
import { throttledPutVersion, uploadingWithin, UploadThrottle } from './upload-throttle.ts';

/** Call targets: the host itself, the table, the bucket; volumes are numbered from FIRST_VOLUME on. */
export const HOST = 0;
export const TABLE = 1;
export const BUCKET = 2;
export const FIRST_VOLUME = 16;

/** Segments of 8 MiB being built and uploaded at once, over all volumes; at least as many as one volume can use. */
export const MAX_SEGMENTS_IN_MEMORY = 16;
/** No volume gets less cache than this, however many there are. */
const LEAST_SHARD_CACHE_BYTES = MIB;
const LEAST_FRAME_CACHE_BYTES = MIB / 4;

export interface HostSettings {
  readonly gateway: string;
  readonly host: string;
  readonly version: string;
  /** Memory for the maps of all volumes together. */
  readonly shardCacheBytes: ByteCount;
  /** Memory for decoded frames of all volumes together. */
  readonly frameCacheBytes: ByteCount;
  /** Bytes per second that all volumes together may upload and download; left out: no limit. */
  readonly rates?: Readonly<Partial<Record<Direction, LineRate>>>;
}

/** How the two services stand, from all attempts of this process. */
export interface CloudCircuits {
  readonly s3: CircuitReport;
  readonly dynamodb: CircuitReport;
}

export interface HostDeps extends Omit<EngineDeps, 'segmentsInMemory' | 'onFenced'> {
  /** Absent where no real service is called. */
  readonly circuits?: () => CloudCircuits;
}

interface Member {
  readonly engine: RemoteVolumeEngine;
  readonly lease: LeaseMember;
}

/** One thread whose volumes are served: where it asks, and the cache log that their blocks are read from. */
interface Client {
  readonly port: RpcPort;
  readonly reader: LogReader;
  readonly members: Map<number, Member>;
  dirtyBlocks: BlockCount;
}

/**
 * The replication half of a gateway behind message ports: the engines of all its volumes, their one lease, and the table and bucket
 * for whoever administers them. The worker thread hosts one; tests host it over a channel in the same thread.
 */
export class ReplicationHost {
  readonly #deps: HostDeps;
  readonly #settings: HostSettings;
  readonly #meter = newMeter();
  readonly #store: ObjectStore;
  readonly #versions: VersionLog;
  readonly #throttles: { readonly upload: UploadThrottle; readonly download: DownloadThrottle };
  /** What the engines write and read through. The administrator's few bytes and the lease go beside the throttles. */
  readonly #throttledStore: ObjectStore;
  readonly #throttledVersions: VersionLog;
  readonly #lease: GatewayLease;
  readonly #segmentsInMemory = new SegmentMemories(Math.max(MAX_SEGMENTS_IN_MEMORY, PARALLEL_UPLOADS));
  readonly #clients: Client[] = [];

  /** `port`: of the thread that the gateway belongs to, and ends it. */
  constructor(deps: HostDeps, settings: HostSettings, port: RpcPort) {
    this.#deps = deps;
    this.#settings = settings;
    this.#store = meteredObjectStore(deps.store, this.#meter);
    this.#versions = meteredVersionLog(deps.versions, this.#meter);
    const upload = new UploadThrottle(deps.clock, settings.rates?.upload);
    const download = new DownloadThrottle(deps.clock, settings.rates?.download);
    this.#throttles = { upload, download };
    this.#throttledStore = downloadingWithin(download, uploadingWithin(upload, this.#store));
    // The metered log is made of functions that need no `this`.
    this.#throttledVersions = { ...this.#versions, putVersion: throttledPutVersion(this.#versions, upload) };
    const { clock, random, log } = deps;
    const { gateway, host, version } = settings;
    this.#lease = new GatewayLease(
      { versions: this.#versions, clock, random, log },
      {
        gateway,
        host,
        version,
        onOffer: (ref) => {
          sendEvent(port, 'offered', HOST, { lineage: ref.lineage, volume: ref.volume });
        },
        dirtyBlocks: () => this.#clients.reduce((sum, { dirtyBlocks }) => sum + dirtyBlocks, 0),
      },
    );
    this.serve(port, deps.reader);
  }

  /** Another thread with volumes and a cache log of its own; they are as much this gateway's as the others. */
  serve(port: RpcPort, reader: LogReader): void {
    const client: Client = { port, reader, members: new Map(), dirtyBlocks: 0 };
    this.#clients.push(client);
    serveCalls(port, (target, method, args) => this.#dispatch(client, target, method, args));
  }

  /** Ends every engine and the lease; what is under way rejects with `stopped`. */
  close(): void {
    for (const client of this.#clients) this.#forgetAll(client);
    this.#throttles.upload.close();
    this.#throttles.download.close();
    this.#lease.close();
  }

  #forgetAll(client: Client): void {
    for (const [target, member] of client.members) this.#forget(client, target, member);
  }

  async #dispatch(client: Client, target: number, method: string, args: readonly unknown[]): Promise<Answer> {
    if (target === HOST) return { value: await this.#hostCall(client, method, args) };
    if (target === TABLE) return { value: await callPort(this.#versions, method, args) };
    if (target === BUCKET) return { value: await callPort(this.#store, method, args) };
    return this.#volumeCall(client, target, method, args);
  }

  async #hostCall(client: Client, method: string, args: readonly unknown[]): Promise<unknown> {
    switch (method) {
      case 'ping':
        return undefined;
      case 'traffic':
        return { ...this.#meter };
      case 'health':
        return this.#lease.health;
      case 'circuits':
        return this.#deps.circuits?.();
      case 'waiting':
        return { upload: this.#throttles.upload.waiting, download: this.#throttles.download.waiting };
      case 'limit':
        this.#throttles[args[0] as Direction].setRate(args[1] as LineRate); // as worker-client sends it
        return undefined;
      case 'dirty':
        client.dirtyBlocks = args[0] as BlockCount; // as worker-client sends it
        return undefined;
      case 'close':
        if (client === this.#clients[0]) this.close();
        else this.#forgetAll(client);
        return undefined;
      default:
        throw new FarshoreError('bug', `the replication worker has no '${method}'`);
    }
  }

  async #volumeCall(client: Client, target: number, method: string, args: readonly unknown[]): Promise<Answer> {
    if (method === 'open') return { value: await this.#open(client, target, args[0] as OpenRequest) };
    const member = client.members.get(target);
    if (method === 'close') {
      if (member !== undefined) this.#forget(client, target, member);
      return { value: undefined };
    }
    if (member === undefined) throw new FarshoreError('stopped', 'the volume is not open');
    const { engine } = member;
    const [first, second, third] = args as readonly number[]; // all but commit take numbers
    switch (method) {
      case 'commit':
        return { value: await engine.commit(args[0] as CommitBatch) };
      case 'copy': {
        const copied = await engine.copy(args[0] as CopyBatch);
        return { value: copied, transfer: [copied.header.buffer as ArrayBuffer] };
      }
      case 'noteCopies':
        await engine.noteCopies(withBuffers(args[0]) as Buffer, args[1] === true);
        return { value: undefined };
      case 'commitCopies':
        return { value: await engine.commitCopies(args[0] as CopiesCommit) };
      case 'read': {
        const blocks = await engine.read(first ?? 0, second ?? 0, unpackReadHow(third ?? 0));
        return { value: blocks, transfer: [blocks.data.buffer as ArrayBuffer, blocks.present.buffer as ArrayBuffer] };
      }
      case 'hurry':
        engine.hurry(first ?? 0, second ?? 0);
        return { value: undefined };
      case 'mapped':
        return { value: await engine.mapped(first ?? 0, second ?? 0) };
      case 'countMapped':
        return { value: await engine.countMapped() };
      case 'nextMapped':
        return { value: await engine.nextMapped(first ?? 0, second ?? 0) };
      case 'rollBackTo':
        return { value: await engine.rollBackTo(first ?? 0) };
      case 'provenThrough':
        return { value: await engine.provenThrough() };
      case 'fold':
        return { value: await engine.fold() };
      case 'verify':
        return { value: await engine.verify() };
      case 'versions':
        return { value: await engine.versions(first ?? 0) };
      case 'status':
        return { value: await engine.status() };
      default:
        throw new FarshoreError('bug', `a remote volume has no '${method}'`);
    }
  }

  async #open(client: Client, target: number, request: OpenRequest): Promise<unknown> {
    invariant(target >= FIRST_VOLUME, `volumes are numbered from ${FIRST_VOLUME}`);
    const member = client.members.get(target) ?? this.#newMember(client, target, request.ref);
    try {
      return await member.engine.open(request);
    } finally {
      this.#shareCaches();
    }
  }

  #newMember(client: Client, target: number, ref: VolumeRef): Member {
    const engine = new RemoteVolumeEngine(
      {
        ...this.#deps,
        store: this.#throttledStore,
        versions: this.#throttledVersions,
        reader: client.reader,
        log: this.#deps.log.child({ volume: ref.volume }),
        segmentsInMemory: this.#segmentsInMemory,
        onFenced: (error) => {
          this.#lease.remove(lease);
          sendEvent(client.port, 'fenced', target, { message: error.message });
        },
      },
      { foldAt: DEFAULT_FOLD_THRESHOLDS, ...this.#cacheShare(this.#volumes + 1) },
    );
    const lease: LeaseMember = {
      ref,
      epoch: () => engine.epoch,
      confirmOwnership: () => engine.confirmOwnership(),
    };
    const member = { engine, lease };
    client.members.set(target, member);
    this.#lease.add(lease);
    return member;
  }

  #forget(client: Client, target: number, { engine, lease }: Member): void {
    client.members.delete(target);
    this.#lease.remove(lease);
    void engine.close();
    this.#shareCaches();
  }

  get #volumes(): number {
    return this.#clients.reduce((sum, { members }) => sum + members.size, 0);
  }

  #shareCaches(): void {
    const { shardCacheBytes, frameCacheBytes } = this.#cacheShare(this.#volumes);
    for (const { members } of this.#clients)
      for (const { engine } of members.values()) engine.setCaches(shardCacheBytes, frameCacheBytes);
  }

  #cacheShare(volumes: number): { readonly shardCacheBytes: ByteCount; readonly frameCacheBytes: ByteCount } {
    const { shardCacheBytes, frameCacheBytes } = this.#settings;
    const share = Math.max(1, volumes);
    return {
      shardCacheBytes: Math.max(LEAST_SHARD_CACHE_BYTES, Math.floor(shardCacheBytes / share)),
      frameCacheBytes: Math.max(LEAST_FRAME_CACHE_BYTES, Math.floor(frameCacheBytes / share)),
    };
  }
}

/** Calls a method of a port with arguments that came through a message. */
async function callPort(port: object, method: string, args: readonly unknown[]): Promise<unknown> {
  const found: unknown = Reflect.get(port, method);
  if (typeof found !== 'function') throw new FarshoreError('bug', `there is no '${method}' to call`);
  return Reflect.apply(found, port, args.map(withBuffers));
}

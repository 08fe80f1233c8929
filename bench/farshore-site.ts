import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, freemem, setPriority } from 'node:os';
import { join } from 'node:path';
import { CloudProcess, GatewayProcess } from '../test/support/gateway-process.ts';
import type { LoadProcess } from './load-process.ts';
import type { Portal } from './load.ts';
import type { GatewayMark } from './peers.ts';

const VOLUME = 'bench';
/** What the cache is full of when the comparison begins. */
const OLDER_VOLUME = 'older';
/** The cap of the comparison: 200 Mbit/s, in bits per second. */
const CAP = '200Mbit/s';
/** The embedded cloud keeps every segment; past this (beside what it was filled with) the site is made anew, so that nothing is filled up. */
const RENEW_AFTER_BYTES = 2.5e9;
/** Memory that is there for the cloud's objects where it has its directory in memory. */
const MEMORY_FOR_CLOUD = 14e9;
const MEMORY_DIRECTORY = '/dev/shm';

export type UploadMode = 'capped' | 'uncapped' | 'paused';

export interface SiteOptions {
  readonly directory: string;
  readonly lunBytes: number;
  readonly cacheSize: string;
  readonly ramSize: string;
}

interface Running {
  readonly cloud: CloudProcess;
  readonly cloudDirectory: string;
  readonly gateway: GatewayProcess;
  readonly target: string;
  /** Uploaded before the comparison. */
  readonly uploadedBytes: number;
}

/**
 * The embedded cloud and a gateway with one async volume, started the way a user does. Its cache is full: that it has not grown to its size yet is how
 * a gateway spends its first hour, and a growing cache writes everything twice. The cloud, which in earnest is elsewhere, keeps off the disk if there is
 * enough memory.
 */
export class FarshoreSite {
  readonly description: string;
  private readonly options: SiteOptions;
  private readonly load: LoadProcess;
  private running: Running;

  private constructor(options: SiteOptions, load: LoadProcess, running: Running) {
    this.options = options;
    this.load = load;
    this.running = running;
    this.description = `farshore serve, async replication to the embedded cloud, cache ${options.cacheSize}, RAM tier ${options.ramSize}`;
  }

  static async start(options: SiteOptions, load: LoadProcess): Promise<FarshoreSite> {
    return new FarshoreSite(options, load, await startAll(options, load));
  }

  get portal(): Portal {
    const { gateway, target } = this.running;
    return { host: gateway.host, port: gateway.port, target, lun: 0 };
  }

  pid(): number | undefined {
    return this.running.gateway.pid();
  }

  async limitUploads(mode: UploadMode): Promise<void> {
    const plan = { capped: CAP, uncapped: 'none', paused: 'pause' }[mode];
    await this.running.gateway.call('limit', { set: { direction: 'upload', plan } });
  }

  /** Without a limit, so that the next round does not wait for what this one left. */
  async drain(): Promise<void> {
    await this.limitUploads('uncapped');
    await this.running.gateway.call('flush', { name: VOLUME });
  }

  /** The figures of the process begin anew with it. */
  async mark(): Promise<GatewayMark> {
    const report = await this.running.gateway.call('status', { newInterval: true });
    const volume = report.volumes.find((entry) => entry.name === VOLUME);
    if (volume === undefined) throw new Error('the gateway does not know its volume any more');
    const { requests } = report.cloud;
    return {
      process: report.process,
      replication: {
        committedN: volume.committedN,
        lagBytes: volume.lagBytes,
        s3Puts: requests.s3Put,
        dynamoWrites: requests.dynamoWrite,
        uploadedBytes: requests.uploadedBytes,
      },
    };
  }

  /** True when the cloud held so much that everything was begun anew, empty. */
  async renewedWhenLarge(): Promise<boolean> {
    const { replication } = await this.mark();
    if (replication.uploadedBytes - this.running.uploadedBytes < RENEW_AFTER_BYTES) return false;
    await this.stop();
    this.running = await startAll(this.options, this.load);
    return true;
  }

  async stop(): Promise<void> {
    await this.running.gateway.end();
    await this.running.cloud.end();
    rmSync(this.running.cloudDirectory, { recursive: true, force: true });
    rmSync(this.options.directory, { recursive: true, force: true });
  }
}

async function startAll(options: SiteOptions, load: LoadProcess): Promise<Running> {
  const { directory, cacheSize, ramSize, lunBytes } = options;
  mkdirSync(directory, { recursive: true });
  const isInMemory = existsSync(MEMORY_DIRECTORY) && freemem() > MEMORY_FOR_CLOUD;
  const cloudDirectory = isInMemory ? mkdtempSync(join(MEMORY_DIRECTORY, 'farshore-')) : directory;
  const cloud = await CloudProcess.start(cloudDirectory);
  // In earnest it would not be on this machine.
  const pid = cloud.pid();
  if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  let gateway: GatewayProcess | undefined;
  try {
    gateway = await GatewayProcess.start({ directory, cloud, cacheSize, ramSize });
    const uploadedBytes = await fillCache(gateway, load);
    return { cloud, cloudDirectory, gateway, target: gateway.createVolume(VOLUME, String(lunBytes)), uploadedBytes };
  } catch (error) {
    await gateway?.end();
    await cloud.end();
    throw error;
  }
}

/** Writes as much as the cache holds, and has it uploaded; how much that was. */
async function fillCache(gateway: GatewayProcess, load: LoadProcess): Promise<number> {
  const { bytes: maxBytes } = (await gateway.call('status', {})).cache;
  const target = gateway.createVolume(OLDER_VOLUME, String(maxBytes));
  await load.fill({ host: gateway.host, port: gateway.port, target, lun: 0 }, maxBytes);
  await gateway.call('flush', { name: OLDER_VOLUME });
  return (await gateway.call('status', {})).cloud.requests.uploadedBytes;
}

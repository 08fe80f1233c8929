import { mkdirSync, rmSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { CloudProcess, GatewayProcess } from '../test/support/gateway-process.ts';
import type { Portal } from './load.ts';
import type { GatewayMark } from './peers.ts';

const VOLUME = 'bench';
/** The cap of the comparison: 200 Mbit/s, in bits per second. */
const CAP = 200_000_000;
/** The embedded cloud keeps every segment; past this the site is made anew, so that the disk is not filled. */
const RENEW_AFTER_BYTES = 2.5e9;

export type UploadMode = 'capped' | 'uncapped' | 'paused';

export interface SiteOptions {
  readonly directory: string;
  readonly lunBytes: number;
  readonly cacheSize: string;
  readonly ramSize: string;
}

interface Running {
  readonly cloud: CloudProcess;
  readonly gateway: GatewayProcess;
  readonly target: string;
}

/** The embedded cloud and a gateway with one async volume, started the way a user does. */
export class FarshoreSite {
  readonly description: string;
  private readonly options: SiteOptions;
  private running: Running;

  private constructor(options: SiteOptions, running: Running) {
    this.options = options;
    this.running = running;
    this.description = `farshore serve, async replication to the embedded cloud, cache ${options.cacheSize}, RAM tier ${options.ramSize}`;
  }

  static async start(options: SiteOptions): Promise<FarshoreSite> {
    return new FarshoreSite(options, await startAll(options));
  }

  get portal(): Portal {
    const { gateway, target } = this.running;
    return { host: gateway.host, port: gateway.port, target, lun: 0 };
  }

  pid(): number | undefined {
    return this.running.gateway.pid();
  }

  async limitUploads(mode: UploadMode): Promise<void> {
    const limit = { capped: CAP, uncapped: undefined, paused: 0 }[mode];
    await this.running.gateway.call('upload-limit', limit === undefined ? {} : { limit });
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
    if (replication.uploadedBytes < RENEW_AFTER_BYTES) return false;
    await this.stop();
    this.running = await startAll(this.options);
    return true;
  }

  async stop(): Promise<void> {
    await this.running.gateway.end();
    await this.running.cloud.end();
    rmSync(this.options.directory, { recursive: true, force: true });
  }
}

async function startAll(options: SiteOptions): Promise<Running> {
  const { cacheSize, ramSize, lunBytes } = options;
  mkdirSync(options.directory, { recursive: true });
  const { directory } = options;
  const cloud = await CloudProcess.start(directory);
  // In earnest it would not be on this machine.
  const pid = cloud.pid();
  if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  let gateway: GatewayProcess | undefined;
  try {
    gateway = await GatewayProcess.start({ directory, cloud, cacheSize, ramSize });
    return { cloud, gateway, target: gateway.createVolume(VOLUME, String(lunBytes)) };
  } catch (error) {
    await gateway?.end();
    await cloud.end();
    throw error;
  }
}

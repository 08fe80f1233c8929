import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { CloudProcess, GatewayProcess } from '../test/support/gateway-process.ts';
import { Tgtd } from '../test/support/tgtd.ts';
import type { Portal } from './load.ts';

/** What replication has done so far; all of it counts up. */
export interface ReplicationMark {
  readonly committedN: number;
  readonly lagBytes: number;
  readonly s3Puts: number;
  readonly dynamoWrites: number;
  readonly uploadedBytes: number;
}

/** A target under test. */
export interface Peer {
  readonly name: 'farshore' | 'tgtd';
  readonly description: string;
  readonly portal: Portal;
  /** CPU time that the target's process has used, all threads, in ms. */
  cpuMs(): number;
  /** Everything the last round wrote is on the disk and, for Farshore, a committed version. */
  settle(): Promise<void>;
  /** Undefined for a peer that does not replicate. */
  replication(): Promise<ReplicationMark | undefined>;
  stop(): Promise<void>;
}

export interface PeerOptions {
  readonly directory: string;
  readonly lunBytes: number;
  readonly cacheSize: string;
  readonly ramSize: string;
}

const VOLUME = 'bench';

/** One tick of /proc's CPU times: USER_HZ is 100 on every Linux that Node runs on. */
const TICK_MS = 10;

/** From /proc/<pid>/stat (proc(5)): fields 14 and 15, counted after the name in brackets, which may hold blanks. */
function cpuMsOf(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid ?? 'self'}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** The embedded cloud and a gateway with one async volume, started the way a user does. */
export async function startFarshore(options: PeerOptions): Promise<Peer> {
  const { directory, cacheSize, ramSize } = options;
  const cloud = await CloudProcess.start(directory);
  let gateway: GatewayProcess;
  try {
    gateway = await GatewayProcess.start({ directory, cloud, cacheSize, ramSize });
  } catch (error) {
    await cloud.end();
    throw error;
  }
  const stop = async (): Promise<void> => {
    await gateway.end();
    await cloud.end();
  };
  try {
    const target = gateway.createVolume(VOLUME, String(options.lunBytes));
    return {
      name: 'farshore',
      description: `farshore serve, async replication to the embedded cloud, cache ${cacheSize}, RAM tier ${ramSize}`,
      portal: { host: gateway.host, port: gateway.port, target, lun: 0 },
      cpuMs: () => cpuMsOf(gateway.pid()),
      settle: async () => {
        await gateway.call('flush', { name: VOLUME });
      },
      replication: async () => {
        const report = await gateway.call('status', {});
        const volume = report.volumes.find((entry) => entry.name === VOLUME);
        if (volume === undefined) throw new Error('the gateway does not know its volume any more');
        const { requests } = report.cloud;
        return {
          committedN: volume.committedN,
          lagBytes: volume.lagBytes,
          s3Puts: requests.s3Put,
          dynamoWrites: requests.dynamoWrite,
          uploadedBytes: requests.uploadedBytes,
        };
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** tgtd with a fully allocated file, with its PDU sizes raised to what Farshore uses. */
export async function startTgtd(options: PeerOptions): Promise<Peer> {
  const file = join(options.directory, 'tgtd.img');
  const image = await open(file, 'w+');
  await image.truncate(options.lunBytes);
  const tgtd = await Tgtd.start({
    directory: options.directory,
    file,
    target: 'iqn.2026-11.dev.farshore:tgtd',
    tuned: true,
  });
  return {
    name: 'tgtd',
    description: 'tgtd, file-backed LUN (page cache, fsync on SYNCHRONIZE CACHE), segments of 256 KiB instead of 8',
    portal: { host: tgtd.host, port: tgtd.port, target: tgtd.target, lun: tgtd.lun },
    cpuMs: () => cpuMsOf(tgtd.pid()),
    settle: async () => {
      await image.sync();
    },
    replication: () => Promise.resolve(undefined),
    stop: async () => {
      await tgtd.stop();
      await image.close();
    },
  };
}

import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { LoggedProcess, eventually } from '../test/support/processes.ts';
import { Tgtd } from '../test/support/tgtd.ts';
import type { ProcessReport } from '../gateway/process-figures.ts';
import type { PeerName } from './cases.ts';
import type { FarshoreSite, UploadMode } from './farshore-site.ts';
import type { Portal } from './load.ts';

/** What replication has done so far; all of it counts up. */
export interface ReplicationMark {
  readonly committedN: number;
  readonly lagBytes: number;
  readonly s3Puts: number;
  readonly dynamoWrites: number;
  readonly uploadedBytes: number;
}

/** What a gateway says of itself; the process's figures are of the interval since the last one. */
export interface GatewayMark {
  readonly replication: ReplicationMark;
  readonly process: ProcessReport;
}

/** A target under test. */
export interface Peer {
  readonly name: PeerName;
  readonly description: string;
  readonly portal: Portal;
  /** Whether it gives back what was written. */
  readonly stores: boolean;
  /** CPU time that the target's process has used, all threads, in ms. */
  cpuMs(): number;
  /** Just before a round. */
  prepare(): Promise<void>;
  /** Everything the last round wrote is on the disk and, for Farshore, a committed version. */
  settle(): Promise<void>;
  /** Undefined for a peer that is no gateway. */
  mark(): Promise<GatewayMark | undefined>;
  stop(): Promise<void>;
}

const READY_LIMIT_MS = 30_000;
/** One tick of /proc's CPU times: USER_HZ is 100 on every Linux that Node runs on. */
const TICK_MS = 10;

/** From /proc/<pid>/stat (proc(5)): fields 14 and 15, counted after the name in brackets, which may hold blanks. */
export function cpuMsOf(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid ?? 'self'}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** A gateway as a peer, with its uploads as the name says; ending the site is somebody else's. */
export function farshorePeer(name: PeerName, site: FarshoreSite, mode: UploadMode): Peer {
  return {
    name,
    description: `${site.description}, ${UPLOADS[mode]}`,
    get portal() {
      return site.portal;
    },
    stores: true,
    cpuMs: () => cpuMsOf(site.pid()),
    prepare: () => site.limitUploads(mode),
    settle: () => site.drain(),
    mark: () => site.mark(),
    stop: () => Promise.resolve(),
  };
}

const UPLOADS: Readonly<Record<UploadMode, string>> = {
  capped: 'uploads capped at 200 Mbit/s',
  uncapped: 'uploads without a limit',
  paused: 'uploads paused during the rounds',
};

const nothing = {
  prepare: () => Promise.resolve(),
  settle: () => Promise.resolve(),
  mark: () => Promise.resolve(undefined),
};

/** tgtd with a fully allocated file, with its PDU sizes raised to what Farshore uses. */
export async function startTgtd(directory: string, lunBytes: number): Promise<Peer> {
  const file = join(directory, 'tgtd.img');
  const image = await open(file, 'w+');
  await image.truncate(lunBytes);
  const tgtd = await Tgtd.start({ directory, file, target: 'iqn.2026-11.dev.farshore:tgtd', tuned: true });
  return {
    ...nothing,
    name: 'tgtd',
    description: 'tgtd, file-backed LUN (page cache, fsync on SYNCHRONIZE CACHE), segments of 256 KiB instead of 8',
    portal: { host: tgtd.host, port: tgtd.port, target: tgtd.target, lun: tgtd.lun },
    stores: true,
    cpuMs: () => cpuMsOf(tgtd.pid()),
    settle: async () => {
      await image.sync();
    },
    stop: async () => {
      await tgtd.stop();
      await image.close();
    },
  };
}

/** The gateway's iSCSI and SCSI code, bundled as it is shipped, over a device that does nothing. */
export async function startNull(directory: string, lunBytes: number): Promise<Peer> {
  const root = resolve(import.meta.dirname, '..');
  const program = join(root, '.stage', 'bench', 'null-target.js');
  await build({
    entryPoints: [join(root, 'bench', 'null-target.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
  const daemon = new LoggedProcess(process.execPath, [program, String(lunBytes)], join(directory, 'null.log'));
  const port = await eventually(
    () => {
      const text = /^listening on (\d+)$/m.exec(daemon.log())?.[1];
      if (text === undefined && !daemon.isRunning()) throw new Error(`the null target has ended:\n${daemon.logTail()}`);
      return text === undefined ? undefined : Number(text);
    },
    READY_LIMIT_MS,
    () => `the null target did not get ready:\n${daemon.logTail()}`,
  );
  return {
    ...nothing,
    name: 'null',
    description: "the gateway's iSCSI and SCSI code over a device that does nothing",
    portal: { host: '127.0.0.1', port, target: 'iqn.2026-11.dev.farshore:null', lun: 0 },
    stores: false,
    cpuMs: () => cpuMsOf(daemon.pid()),
    stop: () => daemon.end('SIGKILL'),
  };
}

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LoggedProcess, eventually, runTool } from '../test/support/processes.ts';
import { Tgtd } from '../test/support/tgtd.ts';
import type { Portal } from './load.ts';
import { cpuMsOf } from './peers.ts';

const READY_LIMIT_MS = 60_000;
/** Everything dirty is written when it is unmounted, at one round trip a block and `THREADS` at a time. */
const UNMOUNT_LIMIT_MS = 1_200_000;
/** Its default is 20; this is what the gateway's S3 client has in sockets. */
const THREADS = 64;

export interface S3backerOptions {
  readonly directory: string;
  readonly s3Port: number;
  readonly bucket: string;
  /** Of its objects' names. */
  readonly prefix: string;
  readonly blockBytes: number;
  readonly lunBytes: number;
  /** Memory of its block cache. */
  readonly cacheBytes: number;
}

/** s3backer (Debian): a file whose blocks are objects in S3, through FUSE; behind tgtd it is the nearest there is to a gateway. */
export class S3backer {
  readonly portal: Portal;
  private readonly mount: string;
  private readonly backer: LoggedProcess;
  private readonly tgtd: Tgtd;

  private constructor(mount: string, backer: LoggedProcess, tgtd: Tgtd) {
    this.mount = mount;
    this.backer = backer;
    this.tgtd = tgtd;
    this.portal = { host: tgtd.host, port: tgtd.port, target: tgtd.target, lun: tgtd.lun };
  }

  /** Why it cannot run on this machine; undefined: it can. */
  static problem(): string | undefined {
    if (!existsSync('/usr/bin/s3backer')) return 'the Debian package s3backer is not installed';
    if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse on this machine';
    return process.getuid?.() === 0 ? undefined : 'only root can mount it for tgtd';
  }

  static async start(options: S3backerOptions): Promise<S3backer> {
    const { directory, blockBytes, lunBytes } = options;
    const mount = join(directory, 'mount');
    mkdirSync(mount, { recursive: true });
    const words = [
      ...['-f', `--blockSize=${blockBytes}`, `--size=${lunBytes}`, `--baseURL=http://127.0.0.1:${options.s3Port}/`],
      ...['--accessId=local', '--accessKey=local', `--prefix=${options.prefix}`],
      // No --region: with one it wants names for buckets (virtual hosts). S3 is consistent since 2020, so nothing has to be remembered or waited for on that account.
      ...['--md5CacheSize=0', '--md5CacheTime=0', '--minWriteDelay=0', '--timeout=120'],
      ...[`--blockCacheThreads=${THREADS}`, `--blockCacheSize=${Math.floor(options.cacheBytes / blockBytes)}`],
      ...[options.bucket, mount],
    ];
    const backer = new LoggedProcess('s3backer', words, join(directory, 's3backer.log'));
    try {
      const isMounted = (): boolean => readFileSync('/proc/mounts', 'utf8').includes(` ${mount} fuse`);
      await eventually(
        () => {
          if (!backer.isRunning()) throw new Error(`s3backer has ended:\n${backer.logTail()}`);
          return isMounted() ? true : undefined;
        },
        READY_LIMIT_MS,
        () => `s3backer did not get ready:\n${backer.logTail()}`,
      );
      const target = 'iqn.2026-11.dev.farshore:s3backer';
      const tgtd = await Tgtd.start({ directory, file: join(mount, 'file'), target, tuned: true });
      return new S3backer(mount, backer, tgtd);
    } catch (error) {
      if (backer.isRunning()) unmount(mount);
      await backer.end('SIGKILL');
      throw error;
    }
  }

  /** Of both processes. */
  cpuMs(): number {
    return cpuMsOf(this.backer.pid()) + cpuMsOf(this.tgtd.pid());
  }

  /** Resolves when everything is in S3, which s3backer says by ending; answers the CPU time until just before that. */
  async drain(): Promise<number> {
    const tgtdMs = cpuMsOf(this.tgtd.pid());
    await this.tgtd.stop();
    unmount(this.mount);
    let backerMs = 0;
    await eventually(
      () => {
        if (!this.backer.isRunning()) return true;
        backerMs = cpuMsOf(this.backer.pid());
        return undefined;
      },
      UNMOUNT_LIMIT_MS,
      () => `s3backer does not end:\n${this.backer.logTail()}`,
    );
    return tgtdMs + backerMs;
  }

  async stop(): Promise<void> {
    await this.tgtd.stop();
    if (this.backer.isRunning()) unmount(this.mount);
    await this.backer.end('SIGKILL');
  }
}

function unmount(mount: string): void {
  runTool('umount', [mount], UNMOUNT_LIMIT_MS);
}

import { join } from 'node:path';
import { LoggedProcess, eventually, freePort, runTool } from './processes.ts';

const READY_LIMIT_MS = 60_000;

/** Parameters that bring tgt's negotiation up to what open-iscsi and Farshore offer; its own defaults are from 2006. */
const TUNED: readonly (readonly [string, string])[] = [
  ['MaxRecvDataSegmentLength', '262144'],
  ['MaxXmitDataSegmentLength', '262144'],
  ['FirstBurstLength', '262144'],
  ['MaxBurstLength', '16776192'],
  ['InitialR2T', 'No'],
];

export interface TgtdOptions {
  readonly directory: string;
  /** The LUN's backing file. */
  readonly file: string;
  readonly target: string;
  /** With larger PDUs than tgt's defaults. */
  readonly tuned: boolean;
}

/** tgtd, the peer we measure and check ourselves against, with one file-backed LUN 1. */
export class Tgtd {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly target: string;
  readonly lun = 1;
  readonly log: () => string;
  private readonly daemon: LoggedProcess;
  /** How tgtadm finds the daemon. */
  private readonly control: readonly string[];
  private luns = 1;

  private constructor(daemon: LoggedProcess, port: number, target: string, control: readonly string[]) {
    this.daemon = daemon;
    this.port = port;
    this.target = target;
    this.control = control;
    this.log = () => daemon.log();
  }

  static async start(options: TgtdOptions): Promise<Tgtd> {
    const port = await freePort();
    // The control socket is named by a small number; the port is as good as any.
    const number = String(port % 32768);
    const control = ['-C', number, '--lld', 'iscsi'];
    const daemon = new LoggedProcess(
      'tgtd',
      ['-f', '-C', number, '--iscsi', `portal=127.0.0.1:${port}`],
      join(options.directory, 'tgtd.log'),
    );
    const tgtd = new Tgtd(daemon, port, options.target, control);
    const admin = (...words: string[]): string => tgtd.admin(...words);
    try {
      await eventually(
        () => {
          try {
            if (!daemon.isRunning()) throw new Error('tgtd has ended');
            return admin('--op', 'new', '--mode', 'target', '-T', options.target);
          } catch (error) {
            if (!daemon.isRunning()) throw error;
            return undefined;
          }
        },
        READY_LIMIT_MS,
        () => `tgtd did not get ready; is the Debian package tgt installed?\n${daemon.logTail()}`,
      );
      admin('--op', 'new', '--mode', 'logicalunit', '--lun', '1', '-b', options.file);
      admin('--op', 'bind', '--mode', 'target', '-I', 'ALL');
      if (options.tuned) {
        for (const [name, value] of TUNED)
          admin('--op', 'update', '--mode', 'target', '--name', name, '--value', value);
      }
    } catch (error) {
      await daemon.end('SIGKILL');
      throw error;
    }
    return tgtd;
  }

  /** One more LUN on a file; `params` as tgtadm takes them, like `thin_provisioning=1`. Returns its number. */
  addLun(file: string, params?: string): number {
    this.luns += 1;
    const lun = ['--mode', 'logicalunit', '--lun', String(this.luns)];
    this.admin('--op', 'new', ...lun, '-b', file);
    if (params !== undefined) this.admin('--op', 'update', ...lun, '--params', params);
    return this.luns;
  }

  /** From now on initiators must prove by CHAP that they know this secret; with several users, any of them will do. */
  requireChap(user: string, secret: string): void {
    runTool('tgtadm', [...this.control, '--op', 'new', '--mode', 'account', '--user', user, '--password', secret]);
    this.admin('--op', 'bind', '--mode', 'account', '--user', user);
  }

  pid(): number | undefined {
    return this.daemon.pid();
  }

  /** An administrative command about the one target. */
  private admin(...words: readonly string[]): string {
    return runTool('tgtadm', [...this.control, ...words, '--tid', '1']);
  }

  /** SIGTERM does not always end it. */
  async stop(): Promise<void> {
    await this.daemon.end('SIGKILL');
  }
}

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LoggedProcess, eventually, freePort, runTool } from './processes.ts';

const READY_LIMIT_MS = 60_000;

export interface IsnsdOptions {
  readonly directory: string;
  /** Seconds after which it forgets an entity it has not heard of. */
  readonly registrationPeriod: number;
  /** Whether its database survives a restart. */
  readonly keepsDatabase: boolean;
}

/** Open-iSNS's server, as Debian ships it, on a loopback port and in a directory of its own. */
export class Isnsd {
  readonly port: number;
  readonly #config: string;
  readonly #adminConfig: string;
  readonly #logFile: string;
  #daemon: LoggedProcess | undefined;

  private constructor(options: IsnsdOptions, port: number) {
    this.port = port;
    const { directory } = options;
    mkdirSync(directory, { recursive: true });
    const file = (name: string): string => join(directory, name);
    this.#config = file('isnsd.conf');
    this.#adminConfig = file('isnsadm.conf');
    this.#logFile = file('isnsd.log');
    const common = ['Security = 0', `ControlSocket = ${file('control')}`];
    const server = [
      'SourceName = iqn.2026-11.dev.farshore.test:isnsd',
      `BindAddress = 127.0.0.1:${port}`,
      `PIDFile = ${file('isnsd.pid')}`,
      `RegistrationPeriod = ${options.registrationPeriod}`,
      'DefaultDiscoveryDomain = 1',
      'SLPRegister = 0',
      'ESIRetries = 0',
      ...(options.keepsDatabase ? [`Database = ${file('database')}`] : []),
    ];
    const admin = ['SourceName = iqn.2026-11.dev.farshore.test:isnsadm', `ServerAddress = 127.0.0.1:${port}`];
    writeFileSync(this.#config, `${[...common, ...server].join('\n')}\n`);
    writeFileSync(this.#adminConfig, `${[...common, ...admin].join('\n')}\n`);
  }

  static async start(options: IsnsdOptions): Promise<Isnsd> {
    const isnsd = new Isnsd(options, await freePort());
    await isnsd.start();
    return isnsd;
  }

  /** Starts it, or starts it again on the same port. */
  async start(): Promise<void> {
    const daemon = new LoggedProcess('isnsd', ['--config', this.#config, '--foreground'], this.#logFile);
    this.#daemon = daemon;
    await eventually(
      () => {
        if (!daemon.isRunning()) throw new Error(`isnsd has ended:\n${daemon.logTail()}`);
        try {
          return this.query('eid');
        } catch {
          // Not listening yet; the time limit decides when that is an error.
          return undefined;
        }
      },
      READY_LIMIT_MS,
      () => `isnsd did not get ready:\n${daemon.logTail()}`,
    );
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#daemon?.end(signal);
  }

  /** What `isnsadm --query` shows of all objects matching, as any client of the server may ask. */
  query(...words: readonly string[]): string {
    return runTool('isnsadm', ['--config', this.#adminConfig, '--query', ...words]);
  }

  /** The TCP ports of the portals that who asks for this target is told, sorted. */
  portalsOf(target: string): string[] {
    const shown = this.query(`iscsi-name=${target}`);
    return [...shown.matchAll(/Portal TCP\/UDP port = (\d+)\/tcp/g)].map((match) => match[1] ?? '').sort();
  }

  /** The names of the targets in the database, sorted. */
  targets(): string[] {
    return [...this.query('eid').matchAll(/iSCSI name = "([^"]+)"/g)].map((match) => match[1] ?? '').sort();
  }
}

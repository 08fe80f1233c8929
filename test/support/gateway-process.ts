import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { connectToGateway } from '../../gateway/admin/control-client.ts';
import type { ArgumentsOf, Operation, Results } from '../../gateway/admin/gateway-api.ts';
import { makeTemporaryDirectory, removeTemporaryDirectory } from './leftovers.ts';
import { LoggedProcess, eventually, freePort, runTool } from './processes.ts';

/** The bundle that is shipped: what runs here is what a user runs. */
const PROGRAM = resolve(import.meta.dirname, '../../dist/farshore.js');
/** Far more than a start takes, for machines that have much else to do. */
const READY_LIMIT_MS = 120_000;
export const SITE_IQN = 'iqn.2026-11.dev.farshore:test';

/** Credentials that the embedded cloud accepts like any others. */
const ENVIRONMENT: NodeJS.ProcessEnv = {
  ...process.env,
  AWS_ACCESS_KEY_ID: 'local',
  AWS_SECRET_ACCESS_KEY: 'local',
};

/** A directory that everything of one test or benchmark lives in; short, because a Unix socket's path must be. */
export function makeSiteDirectory(): string {
  return makeTemporaryDirectory('farshore-');
}

export function removeSiteDirectory(directory: string): void {
  removeTemporaryDirectory(directory);
}

/** Where a gateway finds its cloud, on this machine. */
export interface CloudPorts {
  readonly s3Port: number;
  readonly dynamodbPort: number;
}

/** `farshore cloud` as a process of its own. */
export class CloudProcess implements CloudPorts {
  readonly s3Port: number;
  readonly dynamodbPort: number;
  private readonly directory: string;
  private process: LoggedProcess | undefined;

  private constructor(directory: string, s3Port: number, dynamodbPort: number) {
    this.directory = directory;
    this.s3Port = s3Port;
    this.dynamodbPort = dynamodbPort;
  }

  static async start(directory: string): Promise<CloudProcess> {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing; run: npm run build`);
    const cloud = new CloudProcess(directory, await freePort(), await freePort());
    await cloud.start();
    return cloud;
  }

  /** Starts it, or starts it again with the same data and ports. */
  async start(): Promise<void> {
    const log = join(this.directory, 'cloud.log');
    const words = ['cloud', '--dir', join(this.directory, 'cloud')];
    const ports = ['--s3-port', String(this.s3Port), '--dynamodb-port', String(this.dynamodbPort)];
    const started = new LoggedProcess(process.execPath, [PROGRAM, ...words, ...ports], log, ENVIRONMENT);
    this.process = started;
    await eventually(
      () => {
        if (!started.isRunning()) throw new Error(`farshore cloud has ended:\n${started.logTail()}`);
        // The last line that it prints once it is up.
        return started.log().includes('dynamodbEndpoint: ') ? true : undefined;
      },
      READY_LIMIT_MS,
      () => `farshore cloud did not get ready:\n${started.logTail()}`,
    );
  }

  pid(): number | undefined {
    return this.process?.pid();
  }

  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.process?.end(signal);
  }
}

export interface GatewayOptions {
  readonly directory: string;
  readonly cloud: CloudPorts;
  /** Tells the gateways of one site apart. */
  readonly name?: string;
  readonly cacheSize?: string;
  readonly ramSize?: string;
  readonly rpoSeconds?: number;
  readonly remoteLossSeconds?: number;
  /** Threads that own volumes; their portals are on the ports behind the gateway's. */
  readonly threads?: number;
  /** For Node itself, like `--cpu-prof`. */
  readonly nodeFlags?: readonly string[];
  /** The words for Node that run it; without, the bundle that is shipped. Asked at every start. */
  readonly program?: (configFile: string) => readonly string[];
}

/** `farshore serve` as a process of its own, on a port that stays the same over restarts. */
export class GatewayProcess {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly stateDirectory: string;
  readonly configFile: string;
  readonly logFile: string;
  private readonly nodeFlags: readonly string[];
  private readonly program: (configFile: string) => readonly string[];
  private process: LoggedProcess | undefined;

  private constructor(options: GatewayOptions, port: number) {
    this.nodeFlags = options.nodeFlags ?? [];
    this.program = options.program ?? ((configFile) => [PROGRAM, 'serve', '--config', configFile]);
    const name = options.name ?? 'gateway';
    this.port = port;
    this.stateDirectory = join(options.directory, name);
    this.configFile = join(options.directory, `${name}.yaml`);
    this.logFile = join(options.directory, `${name}.log`);
    mkdirSync(this.stateDirectory, { recursive: true });
    writeFileSync(this.configFile, configText(options, this.stateDirectory, port));
  }

  static async start(options: GatewayOptions): Promise<GatewayProcess> {
    const gateway = new GatewayProcess(options, await freePort(options.threads));
    await gateway.start();
    return gateway;
  }

  /** Starts it, or starts it again on the same state directory; resolves once its volumes are served. */
  async start(): Promise<void> {
    const started = this.launch();
    await eventually(
      async () => {
        if (!started.isRunning()) throw new Error(`farshore serve has ended:\n${started.logTail()}`);
        return started.log().includes('serving on ') && (await this.isServing()) ? true : undefined;
      },
      READY_LIMIT_MS,
      () => `farshore serve did not get ready:\n${started.logTail()}`,
    );
  }

  /** Starts it and waits for nothing. */
  launch(): LoggedProcess {
    const words = [...this.nodeFlags, ...this.program(this.configFile)];
    this.process = new LoggedProcess(process.execPath, words, this.logFile, ENVIRONMENT);
    return this.process;
  }

  isRunning(): boolean {
    return this.process?.isRunning() ?? false;
  }

  /** All that the running process has printed. */
  log(): string {
    return this.process?.log() ?? '';
  }

  logTail(): string {
    return this.process?.logTail() ?? '';
  }

  /** The id of the running process, for looking at its memory. */
  pid(): number | undefined {
    return this.process?.pid();
  }

  /** SIGKILL is a crash, SIGTERM a clean stop. */
  async end(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.process?.end(signal);
  }

  /** An operation over the control socket. */
  call<Op extends Operation>(op: Op, args: ArgumentsOf<Op>): Promise<Results[Op]> {
    return connectToGateway(this.stateDirectory).call(op, args, () => undefined);
  }

  /** A command line as a user types it, without the `farshore`; returns its output. */
  cli(...words: readonly string[]): string {
    return runTool(process.execPath, [PROGRAM, ...words, '--config', this.configFile], 120_000);
  }

  /** Creates the volume with the command line and returns its target name. */
  createVolume(name: string, size: string, sector: 512 | 4096 = 512, ...further: readonly string[]): string {
    this.cli('volume', 'create', name, '--size', size, '--sector', String(sector), ...further);
    return `${SITE_IQN}:${name}`;
  }

  private async isServing(): Promise<boolean> {
    try {
      const report = await this.call('status', {});
      return report.volumes.every((volume) => volume.state !== 'opening');
    } catch {
      // Not there yet; the caller's time limit decides when that is an error.
      return false;
    }
  }
}

function configText(options: GatewayOptions, stateDirectory: string, port: number): string {
  return [
    `stateDir: ${stateDirectory}`,
    `portals: ["127.0.0.1:${port}"]`,
    `iqn: ${SITE_IQN}`,
    `threads: ${options.threads ?? 1}`,
    `cache: { size: ${options.cacheSize ?? '1G'}, ram: ${options.ramSize ?? '64M'} }`,
    'cloud:',
    '  region: us-east-1',
    '  bucket: farshore',
    '  table: farshore',
    `  s3Endpoint: http://127.0.0.1:${options.cloud.s3Port}`,
    `  dynamodbEndpoint: http://127.0.0.1:${options.cloud.dynamodbPort}`,
    `replication: { rpoSeconds: ${options.rpoSeconds ?? 5}, remoteLossSeconds: ${options.remoteLossSeconds ?? 10} }`,
    '',
  ].join('\n');
}

/** An embedded cloud and one gateway on it, in a directory of their own. */
export interface Site {
  readonly directory: string;
  readonly cloud: CloudProcess;
  readonly gateway: GatewayProcess;
  /** Ends every process and removes the directory. */
  close(): Promise<void>;
}

export async function startSite(options: Omit<GatewayOptions, 'directory' | 'cloud'> = {}): Promise<Site> {
  const directory = makeSiteDirectory();
  let cloud: CloudProcess | undefined;
  try {
    cloud = await CloudProcess.start(directory);
    const startedCloud = cloud;
    const gateway = await GatewayProcess.start({ ...options, directory, cloud: startedCloud });
    return {
      directory,
      cloud: startedCloud,
      gateway,
      close: async () => {
        await gateway.end();
        await startedCloud.end();
        removeSiteDirectory(directory);
      },
    };
  } catch (error) {
    await cloud?.end();
    removeSiteDirectory(directory);
    throw error;
  }
}

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Clock, sleep } from '../base/clock.ts';
import { FarshoreError } from '../base/errors.ts';
import { formatDuration, formatSize } from '../base/size.ts';
import { MIB } from '../base/units.ts';
import { connectToGateway } from '../admin/control-client.ts';
import type { GatewayReport } from '../admin/gateway-api.ts';
import { Initiator } from '../initiator/initiator.ts';
import { describeCost } from './cost.ts';
import { DemoProcess } from './processes.ts';
import { makeSourceImage } from './source.ts';

export interface DemoOptions {
  /** The built program, dist/farshore.js. */
  readonly program: string;
  readonly keep: boolean;
  readonly megabytes: number;
  readonly clock: Clock;
}

const VOLUME = 'demo';
const IQN = 'iqn.2026-11.dev.farshore:demo';
const CHUNK = 256 * 1024;
const DEPTH = 8;
const POLL_MS = 500;
const quiet = (): void => undefined;

/** The main job, start to end: serve, replicate, lose the gateway and its disk, restore on a new one, compare every byte. */
export async function runDemo(options: DemoOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'farshore-'));
  const demo = new Demo(options, folder);
  const run = demo.run();
  try {
    await Promise.race([run, stopAsked()]);
    if (options.keep) await demo.stayUp();
  } finally {
    await demo.end();
    // Without its processes the run soon fails; until then it may still write into the folder.
    await run.catch(quiet);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Ctrl-C half way ends the demo's processes and removes its folder like its end does; a second one ends it at once. */
function stopAsked(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        reject(new FarshoreError('stopped', 'the demo was stopped before its end'));
      });
    }
  });
}

class Demo {
  readonly #options: DemoOptions;
  readonly #folder: string;
  readonly #processes = new Set<DemoProcess>();
  readonly #steps: { readonly what: string; readonly took: number }[] = [];
  readonly #start: number;
  #isEnding = false;

  constructor(options: DemoOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
    this.#start = options.clock.monotonicMs();
  }

  async run(): Promise<void> {
    const { megabytes } = this.#options;
    const bytes = megabytes * MIB;
    const source = await this.#step(`Making ${megabytes} MiB of real data`, async () => {
      const packages = join(dirname(dirname(this.#options.program)), 'node_modules');
      if (!existsSync(packages))
        throw new FarshoreError('not-found', `the demo takes its data from ${packages}, which is not there`);
      return makeSourceImage(this.#folder, megabytes, packages);
    });
    say(`    ${source.description}`);

    const cloud = await this.#step('Starting the embedded cloud (S3 and DynamoDB on loopback)', () =>
      this.#startCloud(),
    );
    const office = await this.#step('Starting the gateway of the office', () => this.#startGateway('office', cloud));
    await this.#step(`Creating volume ${VOLUME}, ${formatSize(bytes)}`, () =>
      office.api.call('volume-create', { name: VOLUME, bytes, sectorSize: 512, replication: 'async' }, quiet),
    );
    const written = await this.#step(`Writing it through iSCSI, ${DEPTH} × 256 KiB at a time`, () =>
      this.#write(office, source.path, bytes),
    );
    const flushed = await this.#step('Waiting until every write is a committed version in the cloud', () =>
      this.#replicate(office),
    );
    const cost = (await status(office)).cloud.requests;
    say(`    version ${flushed.n}; ${describeCost(cost)}`);

    await this.#step('Killing the gateway (SIGKILL) and deleting its disk', async () => {
      await office.process.end('SIGKILL');
      this.#processes.delete(office.process);
      await rm(office.stateDir, { recursive: true });
    });
    const spare = await this.#step('Starting a new gateway with an empty disk', () =>
      this.#startGateway('spare', cloud),
    );
    await this.#step('Taking the volume over: LUN online', () => spare.api.call('restore', { name: VOLUME }, quiet));
    const read = await this.#step('Reading every byte of it through iSCSI, fetched from the cloud on demand', () =>
      this.#read(spare, bytes),
    );
    say(`    written  SHA-256 ${written}`);
    say(`    restored SHA-256 ${read}`);
    if (written !== read)
      throw new FarshoreError(
        'damaged',
        'the restored volume differs from what was written; the main promise is broken',
      );
    say(`    ${describeCost((await status(spare)).cloud.requests)}`);
    this.#summarise();
    this.#attach = `  open-iscsi  iscsiadm -m discovery -t st -p ${spare.portal} && iscsiadm -m node -T ${IQN}:${VOLUME} -p ${spare.portal} --login
  Windows     iSCSI Initiator: target portal ${spare.portal}, target ${IQN}:${VOLUME} (from this machine: the demo listens on loopback only)
  QEMU        qemu-system-x86_64 … -drive file=iscsi://${spare.portal}/${IQN}:${VOLUME}/0,format=raw
              qemu-img convert -p iscsi://${spare.portal}/${IQN}:${VOLUME}/0 copy.img
  farshore    npx farshore status --config ${spare.config}`;
  }

  #attach = '';

  /** --keep: until Ctrl-C. */
  async stayUp(): Promise<void> {
    say(`\nEverything stays up until Ctrl-C. Attach from:\n${this.#attach}`);
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve);
    });
  }

  async end(): Promise<void> {
    this.#isEnding = true;
    // The cloud was started first and ends last.
    for (const each of [...this.#processes].reverse()) await each.end('SIGTERM');
  }

  async #step<T>(what: string, work: () => Promise<T>): Promise<T> {
    if (this.#isEnding) throw new FarshoreError('stopped', 'the demo is ending');
    say(`==> ${what}`);
    const before = this.#options.clock.monotonicMs();
    const result = await work();
    const took = this.#options.clock.monotonicMs() - before;
    this.#steps.push({ what, took });
    say(`    ${formatDuration(took)}`);
    return result;
  }

  #summarise(): void {
    say('\nEvery byte is back. How long each step took:');
    for (const { what, took } of this.#steps) say(`  ${formatDuration(took).padStart(9)}  ${what}`);
    say(`  ${formatDuration(this.#options.clock.monotonicMs() - this.#start).padStart(9)}  in all`);
  }

  async #startCloud(): Promise<{ readonly s3: string; readonly dynamodb: string }> {
    const words = ['cloud', '--dir', join(this.#folder, 'cloud'), '--s3-port', '0', '--dynamodb-port', '0'];
    const [, match] = await this.#spawn('cloud', words, /s3Endpoint: (\S+)\s+dynamodbEndpoint: (\S+)\s/);
    return { s3: match[1] ?? '', dynamodb: match[2] ?? '' };
  }

  async #startGateway(name: string, cloud: { readonly s3: string; readonly dynamodb: string }): Promise<DemoGateway> {
    const stateDir = join(this.#folder, name);
    const config = join(this.#folder, `${name}.yaml`);
    const cacheSize = Math.max(512, this.#options.megabytes * 3);
    await writeFile(
      config,
      `stateDir: ${stateDir}
portals: ["127.0.0.1:0"]
iqn: ${IQN}
cache: { size: ${cacheSize}M, ram: 64M }
cloud: { region: us-east-1, bucket: farshore, table: farshore, s3Endpoint: "${cloud.s3}", dynamodbEndpoint: "${cloud.dynamodb}" }
replication: { rpoSeconds: 5 }
`,
    );
    const [started, match] = await this.#spawn(name, ['serve', '--config', config], /serving on (\S+)\s/);
    return { process: started, stateDir, config, portal: match[1] ?? '', api: connectToGateway(stateDir) };
  }

  async #spawn(name: string, words: readonly string[], ready: RegExp): Promise<[DemoProcess, RegExpExecArray]> {
    const started = await DemoProcess.start(this.#options.program, words, join(this.#folder, `${name}.log`), ready);
    if (this.#isEnding) {
      await started[0].end('SIGTERM');
      throw new FarshoreError('stopped', 'the demo is ending');
    }
    this.#processes.add(started[0]);
    return started;
  }

  /** Returns the SHA-256 of what was written. */
  async #write(gateway: DemoGateway, path: string, bytes: number): Promise<string> {
    const initiator = await this.#connect(gateway);
    const file = await open(path, 'r');
    const progress = new ProgressLine('written', bytes);
    try {
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < bytes) {
          const offset = next;
          next += CHUNK;
          const piece = Buffer.alloc(Math.min(CHUNK, bytes - offset));
          await file.read(piece, 0, piece.length, offset);
          await initiator.write(offset / 512, piece);
          progress.add(piece.length);
        }
      };
      const watch = this.#watchReplication(gateway, progress);
      await Promise.all(Array.from({ length: DEPTH }, worker));
      watch.abort();
      await initiator.flush();
    } finally {
      progress.end();
      await file.close();
      await initiator.close();
    }
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  }

  /** Shows the lag beside the bytes written. */
  #watchReplication(gateway: DemoGateway, progress: ProgressLine): AbortController {
    const stop = new AbortController();
    const watch = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        const volume = (await status(gateway)).volumes[0];
        if (volume !== undefined)
          progress.note(`committed version ${volume.committedN}, ${formatSize(volume.lagBytes)} behind`);
        await sleep(this.#options.clock, POLL_MS, stop.signal);
      }
    };
    watch().catch((error: unknown) => {
      progress.note(`no status: ${String(error)}`);
    });
    return stop;
  }

  async #replicate(gateway: DemoGateway): Promise<{ readonly n: number }> {
    const lag = (await status(gateway)).volumes[0]?.lagBytes ?? 0;
    const progress = new ProgressLine('replicated', lag);
    const stop = new AbortController();
    const watch = (async () => {
      while (!stop.signal.aborted) {
        progress.set(lag - ((await status(gateway)).volumes[0]?.lagBytes ?? 0));
        await sleep(this.#options.clock, POLL_MS, stop.signal);
      }
    })();
    try {
      return await gateway.api.call('flush', { name: VOLUME }, quiet);
    } finally {
      stop.abort();
      await watch;
      progress.end();
    }
  }

  /** SHA-256 of the whole LUN, read in order with several reads under way. */
  async #read(gateway: DemoGateway, bytes: number): Promise<string> {
    const initiator = await this.#connect(gateway);
    const progress = new ProgressLine('read', bytes);
    const hash = createHash('sha256');
    const ahead: Promise<Buffer>[] = [];
    try {
      for (let offset = 0; offset < bytes || ahead.length > 0;) {
        while (ahead.length < DEPTH && offset < bytes) {
          const length = Math.min(CHUNK, bytes - offset);
          const piece = initiator.read(offset / 512, length / 512);
          piece.catch(quiet); // it is awaited in its turn; until then its failure is not unhandled
          ahead.push(piece);
          offset += length;
        }
        const piece = await ahead.shift();
        if (piece === undefined) break;
        hash.update(piece);
        progress.add(piece.length);
      }
    } finally {
      progress.end();
      await initiator.close();
    }
    return hash.digest('hex');
  }

  #connect(gateway: DemoGateway): Promise<Initiator> {
    const [host = '', port = ''] = gateway.portal.split(':');
    return Initiator.connect({ host, port: Number(port), target: `${IQN}:${VOLUME}` });
  }
}

interface DemoGateway {
  readonly process: DemoProcess;
  readonly stateDir: string;
  readonly config: string;
  readonly portal: string;
  readonly api: ReturnType<typeof connectToGateway>;
}

function status(gateway: DemoGateway): Promise<GatewayReport> {
  return gateway.api.call('status', {}, quiet);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** One line that is redrawn on a terminal, and printed at every quarter elsewhere. */
class ProgressLine {
  readonly #what: string;
  readonly #total: number;
  readonly #terminal = process.stdout.isTTY;
  #done = 0;
  #note = '';
  #quarter = 0;

  constructor(what: string, total: number) {
    this.#what = what;
    this.#total = total;
  }

  add(bytes: number): void {
    this.set(this.#done + bytes);
  }

  set(done: number): void {
    this.#done = done;
    const quarter = Math.floor((4 * done) / Math.max(1, this.#total));
    if (this.#terminal) process.stdout.write(`\r\x1b[K    ${this.#text()}`);
    else if (quarter > this.#quarter) say(`    ${this.#text()}`);
    this.#quarter = Math.max(quarter, this.#quarter);
  }

  note(text: string): void {
    this.#note = text;
  }

  end(): void {
    if (this.#terminal && this.#total > 0) process.stdout.write('\n');
  }

  #text(): string {
    const share = this.#total === 0 ? 100 : Math.floor((100 * this.#done) / this.#total);
    return `${this.#what} ${formatSize(this.#done)} of ${formatSize(this.#total)} (${share} %)${this.#note === '' ? '' : `; ${this.#note}`}`;
  }
}

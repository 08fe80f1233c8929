import { existsSync, mkdirSync, rmSync, watch } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import {
  CloudProcess,
  GatewayProcess,
  makeSiteDirectory,
  removeSiteDirectory,
  type GatewayOptions,
} from '../support/gateway-process.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { undoSomeChanges } from './directory-journal.ts';
import type { Guarantee } from './op-history.ts';
import { journalOfThread } from './power-cut-thread-disk.ts';
import { connectStamped, StampedDisk } from './stamped-disk.ts';

export interface CrashSettings {
  readonly rounds: number;
  readonly seed: number;
  /** SIGKILL takes the power from the disk too. */
  readonly powerCut: boolean;
  /** The volume is on a thread of its own, and reached through the main portal. */
  readonly inThread?: boolean;
  /** The disk of the power cuts says that it has synced chunks and has not: a campaign must find that. */
  readonly isLying?: boolean;
  /** After so many rounds everything is drained, restored elsewhere and compared, and a fresh state directory begun. */
  readonly roundsPerSite?: number;
  readonly tell?: (line: string) => void;
}

/** When the gateway is killed. */
export type Moment = 'writes' | 'commit' | 'growth' | 'start';

export interface CrashReport {
  readonly rounds: number;
  /** Commands answered with GOOD. */
  readonly acked: number;
  readonly flushes: number;
  /** Kills by moment; of `growth` those that came while a chunk was being made. */
  readonly kills: Readonly<Record<Moment, number>>;
  /** Changes of names that the power cuts took back. */
  readonly namesUndone: number;
  /** Restores elsewhere that were the same, sector by sector. */
  readonly restores: number;
  /** What was wrong; the campaign ends with the first round that has any. */
  readonly wrong: readonly string[];
}

const MOMENTS: readonly Moment[] = ['writes', 'commit', 'growth', 'start', 'growth'];
const DISK_BYTES = 16 * 1024 * 1024;
const VOLUME = 'crash';
const WRITERS = 16;
const LEAST_ACKS = 100;
const ACKS_SPREAD = 1200;
/** A kill at the moment of a commit or of a new chunk comes this long after it began, at most. */
const AFTER_BEGIN_MS = 25;
/** Starts that are killed one after the other, at most. */
const MOST_KILLED_STARTS = 3;
const DEFAULT_ROUNDS_PER_SITE = 25;

/** Rounds of stamped writes, a kill, a start and a check, with the bundle that is shipped and the embedded cloud. */
export async function crashCampaign(settings: CrashSettings): Promise<CrashReport> {
  const { rounds, roundsPerSite = DEFAULT_ROUNDS_PER_SITE } = settings;
  const random = new SimRandom(`${settings.seed}/${settings.powerCut ? 'power' : 'process'}`);
  const total = {
    rounds: 0,
    acked: 0,
    flushes: 0,
    kills: { writes: 0, commit: 0, growth: 0, start: 0 },
    namesUndone: 0,
    restores: 0,
  };
  const wrong: string[] = [];
  const isFine = (): boolean => wrong.length === 0;
  const program = settings.powerCut ? await buildPowerCutGateway() : undefined;
  try {
    for (let site = 0; total.rounds < rounds && isFine(); site += 1) {
      const crashSite = await CrashSite.start(random.split(`site ${site}`), program, settings);
      try {
        const end = Math.min(rounds, total.rounds + roundsPerSite);
        while (total.rounds < end && isFine()) {
          const moment = MOMENTS[total.rounds % MOMENTS.length] ?? 'writes';
          total.rounds += 1;
          const found = await crashSite.round(moment);
          wrong.push(...found.map((line) => `round ${total.rounds}: ${line}`));
          settings.tell?.(`round ${total.rounds}, ${moment}: ${crashSite.disk.acked} commands acked`);
        }
        if (isFine()) {
          wrong.push(...(await crashSite.restoreElsewhere()));
          total.restores += 1;
        }
      } finally {
        total.acked += crashSite.disk.acked;
        total.flushes += crashSite.disk.flushes;
        total.namesUndone += crashSite.namesUndone;
        for (const moment of MOMENTS.slice(0, 4)) total.kills[moment] += crashSite.kills[moment];
        await crashSite.close();
      }
    }
  } finally {
    if (program !== undefined) rmSync(program, { recursive: true, force: true });
  }
  return { ...total, wrong };
}

/** Bundles the gateway with the other disk, beside its worker; answers the directory. */
async function buildPowerCutGateway(): Promise<string> {
  const root = resolve(import.meta.dirname, '../..');
  const directory = join(root, '.stage', `power-cut-${process.pid}`);
  await build({
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
    packages: 'external',
    entryPoints: {
      'power-cut-gateway': join(root, 'test/crash/power-cut-gateway.ts'),
      'replication-worker': join(root, 'gateway/replication/worker.ts'),
      'io-worker': join(root, 'gateway/threads/io-worker.ts'),
    },
    outdir: directory,
    plugins: [
      {
        name: 'power-cut-thread-disk',
        setup: (bundle) => {
          bundle.onResolve({ filter: /^\.\/thread-disk\.ts$/ }, () => ({
            path: join(root, 'test/crash/power-cut-thread-disk.ts'),
          }));
        },
      },
    ],
  });
  return directory;
}

class CrashSite {
  readonly disk: StampedDisk;
  readonly kills: Record<Moment, number> = { writes: 0, commit: 0, growth: 0, start: 0 };
  namesUndone = 0;
  readonly #directory: string;
  readonly #cloud: CloudProcess;
  readonly #gateway: GatewayProcess;
  readonly #target: string;
  readonly #random: SimRandom;
  readonly #guarantee: Guarantee;
  /** Of each thread's disk. */
  readonly #journals: readonly string[];
  /** Where the chunks of the volume's log are. */
  readonly #chunks: string;
  #startMs = 1_000;

  private constructor(
    directory: string,
    cloud: CloudProcess,
    gateway: GatewayProcess,
    random: SimRandom,
    journals: readonly string[],
    settings: CrashSettings,
  ) {
    this.#directory = directory;
    this.#cloud = cloud;
    this.#gateway = gateway;
    this.#random = random;
    this.#journals = journals;
    this.#guarantee = settings.powerCut ? 'flushed' : 'acked';
    this.disk = new StampedDisk(DISK_BYTES, random.split('disk'));
    const thread = settings.inThread === true ? ['1'] : [];
    this.#chunks = join(gateway.stateDirectory, ...thread.flatMap((number) => ['threads', number]), 'cache');
    const placed = thread.flatMap((number) => ['--thread', number]);
    this.#target = gateway.createVolume(VOLUME, String(DISK_BYTES), 512, ...placed);
  }

  static async start(random: SimRandom, program: string | undefined, settings: CrashSettings): Promise<CrashSite> {
    const directory = makeSiteDirectory();
    let cloud: CloudProcess | undefined;
    let gateway: GatewayProcess | undefined;
    try {
      const journal = join(directory, 'journal');
      const threads = settings.inThread === true ? 2 : 1;
      const journals = [
        journal,
        ...Array.from({ length: threads - 1 }, (_, index) => journalOfThread(journal, index + 1)),
      ];
      for (const each of journals) mkdirSync(each);
      cloud = await CloudProcess.start(directory);
      const options: GatewayOptions = { directory, cloud, threads, cacheSize: '1G', ramSize: '32M', rpoSeconds: 1 };
      const powerCut =
        program === undefined
          ? {}
          : { program: powerCutWords(program, journal, random.split('kernel'), settings.isLying) };
      gateway = await GatewayProcess.start({ ...options, ...powerCut });
      return new CrashSite(directory, cloud, gateway, random, journals, settings);
    } catch (error) {
      await gateway?.end();
      await cloud?.end();
      removeSiteDirectory(directory);
      throw error;
    }
  }

  /** Writes until the kill, starts again and answers what is wrong then. */
  async round(moment: Moment): Promise<string[]> {
    const initiator = await connectStamped(this.#endpoint());
    const acks = LEAST_ACKS + this.#random.between(0, ACKS_SPREAD);
    const growth = moment === 'growth' ? this.#whenAChunkIsMade() : undefined;
    await this.disk.writeUntilBroken(initiator, WRITERS, acks, async () => {
      if (moment === 'commit') {
        // Its answer is lost with the gateway.
        this.#gateway.call('flush', { name: VOLUME }).catch(() => undefined);
        await this.#aLittle();
      }
      // Most come before so many acks.
      await growth?.giveUp();
      if (moment !== 'growth') this.kills[moment] += 1;
      await this.#kill();
    });
    await growth?.giveUp();
    if (moment === 'start') await this.#killStarts();
    const before = performance.now();
    await this.#gateway.start();
    this.#startMs = performance.now() - before;
    const notServed = await this.#notServed();
    if (notServed !== undefined) return [notServed];
    const again = await connectStamped(this.#endpoint());
    const wrong = await this.disk.lostOrForeign(again, this.#guarantee);
    await again.close();
    return wrong;
  }

  /** A volume whose log has lost something is refused, and that is a loss as well. */
  async #notServed(): Promise<string | undefined> {
    const { volumes } = await this.#gateway.call('status', {});
    const found = volumes.find(({ name }) => name === VOLUME);
    if (found?.state === 'serving') return undefined;
    return `the volume is not served as it should be: ${found?.state ?? 'gone'}, ${found?.reason ?? 'nobody says why'}`;
  }

  /** Drains, and compares what another gateway makes of the committed version. */
  async restoreElsewhere(): Promise<string[]> {
    const before = await connectStamped(this.#endpoint());
    await this.disk.writeSome(before, WRITERS, LEAST_ACKS);
    await this.#gateway.call('flush', { name: VOLUME });
    const wrong = await this.disk.lostOrForeign(before, this.#guarantee);
    const here = await this.disk.readAll(before);
    await this.#gateway.end();
    const elsewhere = await GatewayProcess.start({ directory: this.#directory, cloud: this.#cloud, name: 'elsewhere' });
    try {
      await elsewhere.call('restore', { name: VOLUME });
      const { host, port } = elsewhere;
      const after = await connectStamped({ host, port, target: this.#target });
      const there = await this.disk.readAll(after);
      await after.close();
      here.forEach((number, sector) => {
        if (there[sector] !== number) wrong.push(`restored elsewhere, sector ${sector} is another one`);
      });
      const { verdict, problems } = await elsewhere.call('verify', { name: VOLUME });
      if (verdict !== 'pass') wrong.push(`the restored volume does not verify: ${verdict}`, ...problems);
    } finally {
      await elsewhere.end();
    }
    return wrong.slice(0, 20);
  }

  async close(): Promise<void> {
    await this.#gateway.end();
    await this.#cloud.end();
    removeSiteDirectory(this.#directory);
  }

  async #kill(): Promise<void> {
    await this.#gateway.end('SIGKILL');
    if (this.#guarantee !== 'flushed') return;
    for (const journal of this.#journals) this.namesUndone += undoSomeChanges(journal, this.#random);
  }

  /** In the middle of a start, recovery included, again and again. */
  async #killStarts(): Promise<void> {
    for (let starts = this.#random.between(1, MOST_KILLED_STARTS); starts > 0; starts -= 1) {
      this.#gateway.launch();
      await pause(this.#startMs * (0.2 + this.#random.fraction()));
      await this.#kill();
      this.kills.start += 1;
    }
  }

  /** Kills the gateway soon after it has begun to make a chunk. */
  #whenAChunkIsMade(): { giveUp(): Promise<void> } {
    const directory = this.#chunks;
    let killing: Promise<void> | undefined;
    // Not always the first one: there is less in the log then.
    let before = this.#random.between(0, 1);
    const watcher = watch(directory, (_, name) => {
      if (killing !== undefined || name?.endsWith('.chunk.new') !== true || !existsSync(join(directory, name))) return;
      before -= 1;
      if (before >= 0) return;
      this.kills.growth += 1;
      killing = this.#aLittle().then(() => this.#kill());
    });
    return {
      giveUp: async () => {
        watcher.close();
        await killing;
      },
    };
  }

  async #aLittle(): Promise<void> {
    await pause(this.#random.fraction() * AFTER_BEGIN_MS);
  }

  #endpoint(): { host: string; port: number; target: string } {
    const { host, port } = this.#gateway;
    return { host, port, target: this.#target };
  }
}

/** Every start has a fate of its own. */
function powerCutWords(
  program: string,
  journal: string,
  random: SimRandom,
  isLying = false,
): (configFile: string) => readonly string[] {
  const lying = isLying ? ['lying'] : [];
  return (configFile) => [
    join(program, 'power-cut-gateway.js'),
    configFile,
    journal,
    String(random.uint32()),
    ...lying,
  ];
}

import { createAwsClients } from '../../gateway/cloud/aws-clients.ts';
import type { VolumeReport, GatewayReport } from '../../gateway/admin/gateway-api.ts';
import type { Initiator } from '../../gateway/initiator/initiator.ts';
import { connectStamped, StampedDisk } from '../crash/stamped-disk.ts';
import type { StampedOp } from '../crash/op-history.ts';
import { SimRandom } from '../sim/sim-random.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy/fault-proxy.ts';
import { CloudProcess, GatewayProcess, makeSiteDirectory, removeSiteDirectory } from '../support/gateway-process.ts';
import { adaptersOn, BUCKET, TABLE } from '../support/local-cloud.ts';
import { eventually } from '../support/processes.ts';
import type { FireCase } from './cases.ts';
import { replayVersions } from './versions.ts';

export interface FireSettings {
  readonly cases: readonly FireCase[];
  readonly seed: number;
  readonly tell?: (line: string) => void;
}

export interface FireReport {
  readonly cases: readonly FireOutcome[];
  readonly acked: number;
  /** Versions whose content was looked at, one by one. */
  readonly versions: number;
  /** Of them, restored on another gateway and compared. */
  readonly restored: readonly number[];
  readonly wrong: readonly string[];
}

export interface FireOutcome {
  readonly name: string;
  /** Requests that met a fault. */
  readonly faults: number;
  /** From the end of the trouble until everything that was acked was in a committed version. */
  readonly recoveryMs: number;
  /** Of S3 and DynamoDB, at the end of the trouble. */
  readonly circuits: readonly string[];
}

const DISK_BYTES = 8 * 1024 * 1024;
const VOLUME = 'fire';
const WRITERS = 8;
/** Commands at a time; the volume is sealed twice a second. */
const BURST = 24;
/** No trouble takes this long to come about. */
const FIRE_LIMIT_MS = 180_000;
/** Longest pause between two attempts is 15 s; an attempt that is under way may take 20 s to fail. */
const RECOVERY_LIMIT_MS = 120_000;
/** Old versions that are restored on another gateway; all are looked at in the bucket. */
const RESTORED_SAMPLES = 1;

/**
 * Stamped writes through iSCSI on a gateway whose cloud is behind the fault proxy, one trouble after the other. Each one ends, and then
 * everything has to be well again by itself. At the end every version has to be a prefix of what was written, each containing the one before it,
 * the newest one all that was acked; some are restored elsewhere.
 */
export async function fireCampaign({ cases, seed, tell }: FireSettings): Promise<FireReport> {
  const site = await FireSite.start(new SimRandom(`fire ${seed}`));
  const outcomes: FireOutcome[] = [];
  const wrong: string[] = [];
  try {
    for (const each of cases) {
      const { outcome, wrong: found } = await site.burn(each, seed);
      outcomes.push(outcome);
      wrong.push(...found.map((line) => `${each.name}: ${line}`));
      tell?.(
        `${each.name}: ${outcome.faults} faults, well again after ${(outcome.recoveryMs / 1000).toFixed(1)} s; circuits ${outcome.circuits.join(', ')}`,
      );
    }
    const end = await site.checkVersions();
    wrong.push(...end.wrong);
    return { cases: outcomes, acked: site.disk.acked, versions: end.versions, restored: end.restored, wrong };
  } catch (error) {
    throw new Error(`under fire: ${String(error)}\n${site.logTail()}`, { cause: error });
  } finally {
    await site.close();
  }
}

class FireSite {
  readonly disk: StampedDisk;
  readonly #directory: string;
  readonly #cloud: CloudProcess;
  readonly #proxy: FaultProxy;
  readonly #gateway: GatewayProcess;
  readonly #random: SimRandom;
  readonly #initiator: Initiator;
  readonly #target: string;

  private constructor(
    parts: { directory: string; cloud: CloudProcess; proxy: FaultProxy; gateway: GatewayProcess; initiator: Initiator },
    target: string,
    random: SimRandom,
  ) {
    this.#directory = parts.directory;
    this.#cloud = parts.cloud;
    this.#proxy = parts.proxy;
    this.#gateway = parts.gateway;
    this.#initiator = parts.initiator;
    this.#target = target;
    this.#random = random;
    this.disk = new StampedDisk(DISK_BYTES, random.split('disk'));
  }

  static async start(random: SimRandom): Promise<FireSite> {
    const directory = makeSiteDirectory();
    let cloud: CloudProcess | undefined;
    let proxy: FaultProxy | undefined;
    let gateway: GatewayProcess | undefined;
    try {
      cloud = await CloudProcess.start(directory);
      proxy = await startFaultProxy(cloud);
      gateway = await GatewayProcess.start({
        directory,
        cloud: proxy,
        cacheSize: '512M',
        ramSize: '32M',
        rpoSeconds: 1,
      });
      const created = await gateway.call('volume-create', {
        ...{ name: VOLUME, bytes: DISK_BYTES, sectorSize: 512, replication: 'async' },
      });
      const initiator = await connectStamped({ host: gateway.host, port: gateway.port, target: created.target });
      return new FireSite({ directory, cloud, proxy, gateway, initiator }, created.target, random);
    } catch (error) {
      await gateway?.end();
      await proxy?.close();
      await cloud?.end();
      removeSiteDirectory(directory);
      throw error;
    }
  }

  /** One trouble, from its beginning until all is well again. */
  async burn({ name, plan, until }: FireCase, seed: number): Promise<{ outcome: FireOutcome; wrong: string[] }> {
    const before = await this.#troubles();
    const committedBefore = (await this.#status()).volume.committedN;
    await this.#proxy.setPlan({ seed, ...plan });
    const circuits = await eventually(
      async () => {
        await this.disk.writeSome(this.#initiator, WRITERS, BURST);
        const { cloud, volume } = await this.#status();
        const states = circuitStates(cloud);
        if ('faults' in until) return (await this.#troubles()) - before >= until.faults ? states : undefined;
        if ('versions' in until) return volume.committedN - committedBefore >= until.versions ? states : undefined;
        return ['open', 'half-open'].includes(cloud.circuits?.[until.open].state ?? '') ? states : undefined;
      },
      FIRE_LIMIT_MS,
      () => `${name} did not come about as it should`,
    );
    const faults = (await this.#troubles()) - before;
    const wrong = await this.disk.wrongNow(this.#initiator);
    await this.#proxy.setPlan({});
    const healed = performance.now();
    await eventually(
      async () => {
        // It waits for the commit; while it does, nobody helps.
        const { n } = await this.#gateway.call('flush', { name: VOLUME });
        const { volume, cloud } = await this.#status();
        const isWell = volume.state === 'serving' && volume.reason === undefined && volume.committedN >= n;
        return isWell && circuitStates(cloud).every((state) => state === 'closed') ? true : undefined;
      },
      RECOVERY_LIMIT_MS,
      () => `${name} has ended, and all is not well again`,
    );
    const recoveryMs = performance.now() - healed;
    await this.#proxy.landed();
    wrong.push(...(await this.disk.wrongNow(this.#initiator)));
    return { outcome: { name, faults, recoveryMs, circuits }, wrong };
  }

  /** What the cloud alone has, after the gateway is gone. */
  async checkVersions(): Promise<{ wrong: string[]; versions: number; restored: number[] }> {
    const here = await this.disk.readAll(this.#initiator);
    const { volume } = await this.#status();
    const found = this.disk.wrongReads.splice(0);
    await this.#initiator.close();
    await this.#gateway.end('SIGKILL');
    const contents = new Map<number, Float64Array>();
    const ref = await this.#refOf(volume);
    let known: ReadonlySet<StampedOp> = new Set();
    let last: Float64Array = new Float64Array(this.disk.history.sectors);
    let versions = 0;
    await this.#directly(async (cloud) => {
      for await (const { n, kind, stamps } of replayVersions(cloud, ref, this.disk.history.sectors)) {
        versions += 1;
        last = stamps;
        if (kind !== 'write') continue;
        const { wrong, inside } = this.disk.history.heldOnce(stamps, known);
        found.push(...wrong.map((line) => `version ${n}: ${line}`));
        known = inside;
        contents.set(n, stamps.slice());
      }
    });
    if (!last.every((stamp, sector) => stamp === here[sector]))
      found.push('the newest version is not what the gateway held');
    found.push(...this.disk.history.settle(last, 'acked').map((line) => `the newest version: ${line}`));
    const restored = await this.#restoreSome(contents, found);
    return { wrong: found.slice(0, 20), versions, restored };
  }

  async #restoreSome(contents: ReadonlyMap<number, Float64Array>, found: string[]): Promise<number[]> {
    const all = [...contents.keys()];
    const newest = all.at(-1);
    const elsewhere = await GatewayProcess.start({ directory: this.#directory, cloud: this.#cloud, name: 'elsewhere' });
    const restored: number[] = [];
    try {
      const samples = Array.from({ length: RESTORED_SAMPLES }, () => this.#random.pick(all));
      for (const version of [undefined, ...samples]) {
        await elsewhere.call('restore', version === undefined ? { name: VOLUME } : { name: VOLUME, version });
        const reader = await connectStamped({ host: elsewhere.host, port: elsewhere.port, target: this.#target });
        const there = await this.disk.readAll(reader);
        await reader.close();
        const n = version ?? newest ?? 0;
        restored.push(n);
        const expected = contents.get(n);
        if (!there.every((stamp, sector) => stamp === expected?.[sector]))
          found.push(`version ${n} restored elsewhere is another one`);
      }
      const { verdict, problems } = await elsewhere.call('verify', { name: VOLUME });
      if (verdict !== 'pass') found.push(`what was restored does not verify: ${verdict}`, ...problems);
    } finally {
      await elsewhere.end();
    }
    return restored;
  }

  async #refOf({ id }: VolumeReport): Promise<{ readonly lineage: string; readonly volume: string }> {
    return this.#directly(async ({ log }) => {
      const ref = await log.resolveName(VOLUME);
      if (ref?.volume !== id) throw new Error(`the name ${VOLUME} is that of another volume`);
      return ref;
    });
  }

  /** Beside the proxy. */
  async #directly<T>(work: (adapters: ReturnType<typeof adaptersOn>) => Promise<T>): Promise<T> {
    const { s3Port, dynamodbPort } = this.#cloud;
    const clients = createAwsClients({
      region: 'us-east-1',
      s3Endpoint: `http://127.0.0.1:${s3Port}`,
      dynamodbEndpoint: `http://127.0.0.1:${dynamodbPort}`,
    });
    try {
      return await work(adaptersOn(clients, BUCKET, TABLE));
    } finally {
      clients.close();
    }
  }

  async #status(): Promise<{ cloud: GatewayReport['cloud']; volume: VolumeReport }> {
    const { cloud, volumes } = await this.#gateway.call('status', {});
    const volume = volumes.find(({ name }) => name === VOLUME);
    if (volume === undefined) throw new Error('the volume is gone');
    return { cloud, volume };
  }

  async #troubles(): Promise<number> {
    const { operations, throttled } = await this.#proxy.report();
    const counts = [...Object.values(operations.s3), ...Object.values(operations.dynamodb)];
    return counts.reduce((sum, { faults }) => sum + faults, throttled);
  }

  logTail(): string {
    return this.#gateway.logTail();
  }

  async close(): Promise<void> {
    await this.#gateway.end();
    await this.#proxy.close();
    await this.#cloud.end();
    removeSiteDirectory(this.#directory);
  }
}

function circuitStates({ circuits }: GatewayReport['cloud']): readonly string[] {
  return [circuits?.s3.state ?? 'unknown', circuits?.dynamodb.state ?? 'unknown'];
}

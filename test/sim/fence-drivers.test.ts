import { describe, expect, it } from 'vitest';
import { isKind } from '../../gateway/base/errors.ts';
import { sleep } from '../../gateway/base/clock.ts';
import type { VersionItem, VersionLog } from '../../gateway/cloud/version-log.ts';
import { decodeRecord } from '../../gateway/format/version-record.ts';
import { walkLog } from '../../gateway/maintenance/walk.ts';
import type { VersionWriter } from '../../gateway/replication/version-writer.ts';
import { FenceWorld, REF, inlineVersion } from '../unit/replication/fence-world.ts';
import type { TestGateway } from '../unit/replication/fence-world.ts';
import { HEALTHY_CLOUD } from './sim-cloud.ts';
import type { CloudFaults } from './sim-cloud.ts';

const SEEDS = 40;
/** Virtual time a world is troubled for, then healed. */
const TROUBLE_MS = 60_000;
const TROUBLED: CloudFaults = {
  ...HEALTHY_CLOUD,
  errorBefore: 0.05,
  lostResponse: 0.08,
  lateEffect: 0.05,
  hiddenRetry: 0.05,
};

/** A walk is many requests, and gives up at the first that fails. */
const MAINTENANCE: CloudFaults = { ...HEALTHY_CLOUD, errorBefore: 0.01, lostResponse: 0.02, lateEffect: 0.02 };

/** What the history has been so far; nothing in it may ever change. */
class TrueHistory {
  readonly #world: FenceWorld;
  readonly chains: Buffer[] = [];
  #epoch = 0;

  constructor(world: FenceWorld) {
    this.#world = world;
    const { table } = world.cloud;
    const put = table.putVersion.bind(table);
    // Every change of the log is looked at as it happens.
    Object.assign(table, {
      putVersion: (volume: string, item: VersionItem, previousEpoch: number) => {
        const outcome = put(volume, item, previousEpoch);
        this.#follow(item.n);
        return outcome;
      },
    });
  }

  #follow(changed: number): void {
    const { table } = this.#world.cloud;
    const folded = table.getVolume(REF)?.checkpoint?.n ?? 0;
    const known = this.chains[changed - 1];
    if (known && changed > folded) expect(table.getVersion(REF.volume, changed)?.chain).toEqual(known);
    for (;;) {
      const next = table.getVersion(REF.volume, this.chains.length + 1);
      if (!next || next.epoch < this.#epoch) return;
      this.#epoch = next.epoch;
      this.chains.push(next.chain);
    }
  }
}

interface Tally {
  acked: number;
  fenced: number;
  takeovers: number;
  folds: number;
  deleted: number;
  walks: number;
}

/** A gateway that takes the volume over, writes, and dies or is fenced; then the next start of the same gateway. */
async function serve(world: FenceWorld, name: string, history: TrueHistory, tally: Tally): Promise<void> {
  const random = world.random.split(`serve ${name}`);
  while (world.clock.monotonicMs() < TROUBLE_MS) {
    await sleep(world.clock, random.fraction() * 20_000);
    const gateway = world.gateway(name, TROUBLED);
    const writer = await takeOver(gateway);
    if (!writer) continue;
    tally.takeovers += 1;
    // The walk of a takeover that stands saw the history up to it.
    const walked = gateway.walked.at(-1);
    if (walked) expect(walked.item.chain).toEqual(history.chains[walked.record.n - 1]);
    expect(writer.lastCommitted().chain).toEqual(history.chains[writer.takeoverN - 1]);
    await write(world, writer, history, tally);
    if (random.chance(0.5)) gateway.life.alive = false;
    else writer.close();
  }
}

async function takeOver(gateway: TestGateway): Promise<VersionWriter | undefined> {
  try {
    return await gateway.takeOver();
  } catch (error) {
    if (isKind(error, 'retry', 'fenced')) return undefined;
    throw error;
  }
}

async function write(world: FenceWorld, writer: VersionWriter, history: TrueHistory, tally: Tally): Promise<void> {
  const random = world.random.split(`write ${writer.epoch}`);
  const versions = random.between(0, 25);
  for (let i = 0; i < versions; i += 1) {
    let sealed;
    try {
      const version = inlineVersion(`${writer.epoch} ${i}`, i);
      const ready = sleep(world.clock, random.fraction() * 200);
      sealed = writer.append(version.fields, { inline: version.inline, ready });
    } catch (error) {
      if (isKind(error, 'fenced', 'busy')) return;
      throw error;
    }
    const { n, chain } = sealed;
    sealed.committed.then(
      () => {
        tally.acked += 1;
        expect(history.chains[n - 1]).toEqual(chain);
      },
      (error: unknown) => {
        if (isKind(error, 'fenced')) tally.fenced += 1;
        else if (!isKind(error, 'stopped')) throw error;
      },
    );
    await sleep(world.clock, random.fraction() * 500);
  }
  await sleep(world.clock, random.fraction() * 5_000);
}

/** Folds, raises the floor, deletes: with a reader's walk and rule 4, and dies half-way now and then. */
async function maintain(world: FenceWorld, versions: VersionLog, history: TrueHistory, tally: Tally): Promise<void> {
  const random = world.random.split('maintenance');
  while (world.clock.monotonicMs() < TROUBLE_MS) {
    await sleep(world.clock, random.fraction() * 5_000);
    try {
      const before = await versions.getVolume(REF);
      if (!before || (await versions.raiseMaintenanceEpoch(REF, before.maintenanceEpoch)) === 'conflict') continue;
      const maintenanceEpoch = before.maintenanceEpoch + 1;
      const began = history.chains.length;
      const { records, tail } = await walkLog(versions, REF);
      tally.walks += 1;
      expect(tail.n).toBeGreaterThanOrEqual(began);
      if (tail.n > 0) expect(tail.chain).toEqual(history.chains[tail.n - 1]);
      if (tail.n === 0 || random.chance(0.2)) continue;
      const { n, epoch, chain } = tail;
      const pointer = { sequence: maintenanceEpoch, maintenanceEpoch, n, epoch, chain };
      if ((await versions.publishCheckpoint(REF, pointer)) !== 'ok') continue;
      tally.folds += 1;
      if (random.chance(0.2) || (await versions.raiseFloor(REF, n, maintenanceEpoch)) !== 'ok') continue;
      const gone = records.filter(({ record }) => record.kind !== 'takeover').map(({ record }) => record.n);
      for (let at = 0; at < gone.length; at += 25) await versions.deleteVersions(REF.volume, gone.slice(at, at + 25));
      tally.deleted += gone.length;
    } catch (error) {
      if (!isKind(error, 'retry')) throw error;
    }
  }
}

async function runWorld(seed: number, tally: Tally): Promise<void> {
  const world = new FenceWorld(seed);
  const history = new TrueHistory(world);
  const maintenance = world.gateway('maintenance', MAINTENANCE);
  const all = Promise.all([
    serve(world, 'a', history, tally),
    serve(world, 'b', history, tally),
    serve(world, 'a', history, tally),
    maintain(world, maintenance.deps.versions, history, tally),
  ]);
  await world.clock.settle(all);
  // Whatever strays is landed, and the next one to come finds every acked version, on one chain.
  await world.clock.run();
  const last = await world.gateway('c').open();
  const { records, tail } = await world.clock.settle(walkLog(world.gateway('reader').deps.versions, REF));
  expect(tail).toEqual({ n: history.chains.length, epoch: last.epoch, chain: history.chains.at(-1) });
  for (const { item, record } of records) {
    expect(item.chain).toEqual(history.chains[record.n - 1]);
    expect(decodeRecord(item.record)).toEqual(record);
  }
}

describe('several drivers of the fence at once, in a troubled cloud', () => {
  it(`keep every acked version in one history, over ${SEEDS} seeds`, async () => {
    const tally: Tally = { acked: 0, fenced: 0, takeovers: 0, folds: 0, deleted: 0, walks: 0 };
    for (let seed = 0; seed < SEEDS; seed += 1) {
      try {
        await runWorld(seed, tally);
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
    console.info('fence drivers:', JSON.stringify(tally));
    expect(tally.acked).toBeGreaterThan(SEEDS * 50);
    expect(tally.fenced).toBeGreaterThan(SEEDS * 5);
    expect(tally.folds).toBeGreaterThan(SEEDS * 5);
    expect(tally.deleted).toBeGreaterThan(SEEDS * 20);
  }, 300_000);
});

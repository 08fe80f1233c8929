import { sleep } from '../../gateway/base/clock.ts';
import type { VersionItem } from '../../gateway/cloud/version-log.ts';
import { EMPTY_CHAIN, chainAfter, decodeRecord, type VersionRecord } from '../../gateway/format/version-record.ts';
import { Violation, type History, type Op } from './history.ts';
import { checkImage } from './sim-image.ts';
import { checkQuota } from './quotas.ts';
import type { SimGateway } from './sim-gateway.ts';
import type { World } from './world.ts';

/** Virtual time after which a healthy world must have come to rest. */
const PATIENCE_MS = 240_000;
/** What goes on in the background ends within this time. */
const REST_MS = 30_000;
/** Openings that late requests of dead processes may spoil. */
const MAX_OPENINGS = 8;
/** After it no request of a dead process is under way any more. */
const STRAYS_LAND_MS = 130_000;

/**
 * The end of a world: everything is healthy again, somebody serves, everything answered is flushed to the cloud; then all
 * gateways are lost, late requests land, and the cloud alone must hold what was promised, in every version.
 */
export async function checkEnd(world: World): Promise<void> {
  world.heal();
  const gateway = await flushEverything(world);
  const { line } = gateway;
  if (line === undefined) throw new Violation('a serving gateway without a history');
  await checkAtRest(world, gateway);
  await checkQuota(world, gateway, (await world.restore()).values);
  const newest = await world.restore({ verify: true });
  matchAll(world, line, newest.values);
  world.sizes.check('the newest version', newest.bytes);
  await stopWithImage(world, gateway);
  for (const other of world.gateways) if (other.state !== 'down') world.kill(other, 'power');
  await sleep(world.clock, STRAYS_LAND_MS);
  const later = await world.restore();
  matchAll(world, line, later.values);
  await checkVersions(world);
}

/** Closed without haste, and with nothing to excuse it, a stored volume is all in its image. */
async function stopWithImage(world: World, { running, life }: SimGateway): Promise<void> {
  if (world.plan.image === 'none' || running === undefined) return;
  const closed = { done: false };
  running.close().then(
    () => (closed.done = true),
    (error: unknown) => {
      world.fail(error);
    },
  );
  const isClosed = (): boolean => closed.done;
  for (let waits = 0; !isClosed() && life.alive && waits < 600; waits++) await sleep(world.clock, 100);
  if (!isClosed()) throw new Violation(`${life.name} never closes`);
  const owner = world.gateways.find((gateway) => gateway.life === life);
  if (owner !== undefined) checkImage(world, owner, true);
}

function matchAll(world: World, line: History, values: ReadonlyMap<number, number>): void {
  line.matchPrefix(
    'the newest version at the end',
    world.sectors,
    (sector) => values.get(sector) ?? 0,
    (op) => op.ackedAt !== Infinity,
  );
}

/** With nobody at work everything that was taken is given back: room in the log, what may be read ahead, dirt. */
async function checkAtRest(world: World, { running }: SimGateway): Promise<void> {
  if (running === undefined) throw new Violation('a serving gateway without a process');
  const deadline = world.clock.monotonicMs() + REST_MS;
  for (;;) {
    world.throwIfFailed();
    const busy = running.underWay();
    if (Object.values(busy).every((count) => count === 0)) return;
    if (world.clock.monotonicMs() > deadline)
      throw new Violation(`nobody is at work, and yet ${JSON.stringify(busy)} do not end`);
    await sleep(world.clock, 100);
  }
}

/** Resolves with the owner, idle, everything it answered in a committed version. */
async function flushEverything(world: World): Promise<SimGateway> {
  const deadline = world.clock.monotonicMs() + PATIENCE_MS;
  for (let openings = 0; openings < MAX_OPENINGS;) {
    world.throwIfFailed();
    if (world.clock.monotonicMs() > deadline) break;
    if (world.gateways.some(({ state }) => state === 'opening')) {
      await sleep(world.clock, 500);
      continue;
    }
    const owner = world.gateways.find((gateway) => gateway.state === 'serving' && gateway.epoch === world.volume.epoch);
    if (owner?.workload === undefined) {
      openings++;
      const next = world.gateways.find(({ name }) => name === world.volume.owner) ?? world.gateways[0];
      if (next === undefined) break;
      if (next.state !== 'down') world.kill(next, 'process');
      world.start(next, true);
      continue;
    }
    const { workload } = owner;
    workload.pause();
    for (let waits = 0; workload.underWay > 0 && waits < 600; waits++) await sleep(world.clock, 100);
    if (owner.workload !== workload) continue;
    if (workload.underWay > 0) throw new Violation(`${owner.life.name} leaves ${workload.underWay} calls unanswered`);
    const flush = { ended: false, done: false };
    workload.flushRemote().then(
      (done) => Object.assign(flush, { ended: true, done }),
      (error: unknown) => {
        world.fail(error);
      },
    );
    const hasEnded = (): boolean => flush.ended;
    const isDone = (): boolean => flush.done;
    while (!hasEnded()) {
      world.throwIfFailed();
      if (world.clock.monotonicMs() > deadline)
        throw new Violation(`${owner.life.name} never flushes to a healthy cloud`);
      await sleep(world.clock, 100);
    }
    if (isDone() && workload.stoppedBy === undefined && owner.epoch === world.volume.epoch) return owner;
    openings++;
    world.kill(owner, 'process');
  }
  throw new Violation('a healthy world does not come to rest');
}

/** The whole log: its chain, who wrote what, every promise, and the content of some versions. */
async function checkVersions(world: World): Promise<void> {
  const versions = historyOf(world);
  world.note(`${versions.length} versions`);
  for (const [epoch, line] of world.lines)
    for (const { n } of line.promises) {
      const item = versions[n - 1];
      if (item === undefined) throw new Violation(`version ${n} was promised to a remote flush and is gone`);
      if (world.lines.get(item.epoch)?.name !== line.name)
        throw new Violation(`version ${n}, promised in epoch ${epoch} (${line.name}), is somebody else's`);
    }
  const hasContent = ({ kind }: VersionRecord): boolean => kind === 'write' || kind === 'resize';
  const data = versions.filter(({ epoch, record }) => world.lines.has(epoch) && hasContent(decodeRecord(record)));
  const random = world.random.split('versions');
  const chosen = new Set<VersionItem>();
  for (let sample = 0; sample < world.plan.versionSamples && data.length > 0; sample++) chosen.add(random.pick(data));
  const known = new Map<History, Set<Op>>();
  for (const item of [...chosen].sort((a, b) => a.n - b.n)) {
    const line = world.lines.get(item.epoch);
    if (line === undefined) continue;
    const { values, bytes } = await world.restore({ n: item.n });
    const { volumeBytes } = decodeRecord(item.record);
    if (bytes !== volumeBytes) throw new Violation(`version ${item.n} has ${volumeBytes} bytes, restored ${bytes}`);
    const before = known.get(line) ?? new Set<Op>();
    const inside = line.matchPrefix(
      `version ${item.n}`,
      world.sectors,
      (sector) => values.get(sector) ?? 0,
      (op) => before.has(op) || line.isPromised(op, item.n),
    );
    known.set(line, inside);
  }
}

/** Every version from 1 to the end of the log, its chain checked without the product's walk. */
function historyOf(world: World): VersionItem[] {
  const versions: VersionItem[] = [];
  let chain = EMPTY_CHAIN;
  let epoch = 0;
  for (let n = 1; ; n++) {
    const item = world.cloud.table.getVersion(world.ref.volume, n);
    if (item === undefined || item.epoch < epoch) return versions;
    if (!chainAfter(chain, item.record).equals(item.chain)) throw new Violation(`the chain breaks at version ${n}`);
    ({ chain, epoch } = item);
    versions.push(item);
  }
}

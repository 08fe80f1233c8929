import { type Clock, sleep } from './base/clock.ts';
import { describeError, FarshoreError, isKind } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { Catalogue, CatalogueVolume } from './catalogue.ts';
import type { VersionLog, VolumeItem, VolumeRef } from './cloud/version-log.ts';
import { flushInTime } from './flush-in-time.ts';
import { offerNotice } from './replication/lease.ts';
import type { ServedVolume } from './served-volume.ts';
import type { VolumeTargets } from './target-directory.ts';
import type { IoThreads } from './threads/io-threads.ts';
import { itemOf, unlessFenced } from './volume-lookup.ts';

export interface HandoverDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly table: VersionLog;
  readonly targets: VolumeTargets;
  readonly catalogue: Pick<Catalogue, 'gateway' | 'volumes' | 'put'>;
  readonly io: Pick<IoThreads, 'placeFor'>;
  /** Serves the volume as this entry has it, from the beginning. */
  readonly reopen: (entry: CatalogueVolume) => ServedVolume;
  /** Aborts when the gateway is stopped. */
  readonly closing: AbortSignal;
}

/** How often the volume item is read while the other gateway is waited for. */
const LOOK_MS = 500;
/** A gateway hears of an offer with its next beat, every ten seconds; one that has not by then is not there. */
const ACCEPTED_WITHIN_MS = 45_000;
/** What was released is opened at once, or taken back. */
const OPENED_WITHIN_MS = 60_000;
/** The taker waits so long for the release: the drain before it may take its minute, twice. */
const RELEASED_WITHIN_MS = 180_000;

/** A gateway's identity. */
const GATEWAY = /^[0-9a-f]{16}$/;

/**
 * `handover NAME --to GATEWAY` (decision 0029): the volume is another gateway's from now on, and nothing that was acked is lost. The two need no way to each other: what
 * they tell each other is in the volume item, conditional on the epoch, and a notice in the other one's gateway item makes it look there.
 *
 * 1. offered; the other gateway hears of it with its next beat, and accepts: it is alive, and looks at the item from now on
 * 2. everything acked is made a version; initiators are told to come back; what they wrote meanwhile is made a version too; the volume is closed
 * 3. released: from this step on, and not before, the other one may open it; it does so by raising the epoch, like any takeover, and that ends the handover
 * 4. when it has, initiators find no target here any more; when it has not in time, this gateway opens the volume again: whoever raises the epoch first has it
 *
 * A crash of either before 3 leaves the volume here; after it, it is whoever opens it first, and the other one is fenced. The volume's cached blocks stay
 * here, for its way back. Rejects with `input` (no such gateway, it did not accept), `in-use`, `retry` (cloud away), `stopped`: it is served here then, or, where
 * the answer says so, nobody knows yet.
 */
export async function handOver(deps: HandoverDeps, served: ServedVolume, to: string): Promise<ServedVolume> {
  const { table, catalogue, targets } = deps;
  const { entry } = served;
  const { name } = entry;
  if (!GATEWAY.test(to))
    throw new FarshoreError(
      'input',
      `${to} is no gateway; name it as its own farshore status does: 16 hexadecimal digits`,
    );
  if (to === catalogue.gateway) throw new FarshoreError('input', `volume ${name} is on this gateway already`);
  const volume = served.serving();
  requireReady(targets, entry);
  await flushInTime(deps, entry, volume, 'handed over');
  const { epoch } = volume;
  await offer(deps, entry, epoch, to);
  const noLongerExpected = targets.expect(entry);
  try {
    await served.withdraw();
    requireReady(targets, entry);
    await flushInTime(deps, entry, volume, 'handed over');
  } catch (error) {
    await served.offer();
    noLongerExpected();
    await takeBack(deps, entry, epoch);
    throw error;
  }
  const isAllCommitted = await served.close();
  try {
    if (!isAllCommitted) {
      throw new FarshoreError(
        'retry',
        `volume ${name} was not handed over, because it was written to while it was being closed (by a SANITIZE, say); try again`,
      );
    }
    await unlessFenced(table.changeVolume(entry, epoch, { handover: { to, state: 'released' } }), name);
    await openedBy(deps, entry, epoch, to);
  } catch (error) {
    // Whatever the other one does meanwhile: one of the two raises the epoch first.
    const again = deps.reopen(entry);
    noLongerExpected();
    const failure = await again.firstAttempt;
    if (failure?.kind === 'fenced' && (await ownerOf(deps, entry)) === to) return again;
    throw error;
  }
  // It says where the volume is now, and keeps what is cached for its way back.
  const gone = deps.reopen(entry);
  noLongerExpected();
  await gone.firstAttempt;
  return gone;
}

function requireReady(targets: VolumeTargets, entry: CatalogueVolume): void {
  const reason = targets.notReady(entry);
  if (reason !== undefined) throw new FarshoreError('in-use', `volume ${entry.name} was not handed over: ${reason}`);
}

/** Resolves when the other gateway has accepted; otherwise nothing is offered any more. */
async function offer(deps: HandoverDeps, entry: CatalogueVolume, epoch: number, to: string): Promise<void> {
  const { table } = deps;
  await unlessFenced(table.changeVolume(entry, epoch, { handover: { to, state: 'offered' } }), entry.name);
  try {
    await table.notify(to, offerNotice(entry, epoch));
    const isAccepted = ({ handover }: VolumeItem): boolean => handover?.to === to && handover.state === 'accepted';
    if (await becomes(deps, entry, ACCEPTED_WITHIN_MS, isAccepted)) return;
    throw new FarshoreError(
      'input',
      `gateway ${to} did not accept volume ${entry.name} within ${ACCEPTED_WITHIN_MS / 1000} s: it is not running, cannot reach the cloud, or its log says why not; nothing was changed`,
    );
  } catch (error) {
    await takeBack(deps, entry, epoch);
    throw error;
  }
}

/** As far as the cloud lets us: what is left is over when the epoch is raised next. */
async function takeBack({ table, log }: HandoverDeps, entry: CatalogueVolume, epoch: number): Promise<void> {
  try {
    await table.changeVolume(entry, epoch, { handover: null });
  } catch (error) {
    if (!isKind(error, 'retry')) throw error;
    log.warn({ volume: entry.name, reason: describeError(error) }, 'the offer of a handover could not be taken back');
  }
}

async function openedBy(deps: HandoverDeps, entry: CatalogueVolume, epoch: number, to: string): Promise<void> {
  const isTheirs = (item: VolumeItem): boolean => item.epoch > epoch && item.owner === to;
  if (await becomes(deps, entry, OPENED_WITHIN_MS, isTheirs)) return;
  throw new FarshoreError(
    'retry',
    `gateway ${to} did not open volume ${entry.name} within ${OPENED_WITHIN_MS / 1000} s, so this one has taken it back; its log says why. Try again`,
  );
}

async function ownerOf({ table }: HandoverDeps, entry: CatalogueVolume): Promise<string | undefined> {
  try {
    return (await table.getVolume(entry))?.owner;
  } catch (error) {
    if (!isKind(error, 'retry')) throw error;
    return undefined;
  }
}

/** Looks at the item until it is so; false when it is not in time. A table that does not answer is asked again. */
async function becomes(
  { clock, table, closing }: HandoverDeps,
  ref: VolumeRef,
  withinMs: number,
  isSo: (item: VolumeItem) => boolean,
  mayGoOn: (item: VolumeItem) => boolean = () => true,
): Promise<boolean> {
  const until = clock.monotonicMs() + withinMs;
  for (;;) {
    try {
      const item = await itemOf(table, ref);
      if (isSo(item)) return true;
      if (!mayGoOn(item)) return false;
    } catch (error) {
      if (!isKind(error, 'retry')) throw error;
    }
    if (clock.monotonicMs() >= until) return false;
    await sleep(clock, LOOK_MS, closing);
    if (closing.aborted)
      throw new FarshoreError('stopped', 'the handover was cut short, because the gateway is being stopped');
  }
}

/**
 * The other side of it: accepts what is offered to this gateway, waits for the release, and opens the volume. Resolves with it; undefined when there
 * was nothing to accept, or the owner has changed its mind.
 */
export async function takeHandover(
  deps: HandoverDeps,
  ref: VolumeRef,
  present: (name: string) => ServedVolume | undefined,
): Promise<ServedVolume | undefined> {
  const { table, catalogue, io, log } = deps;
  const item = await itemOf(table, ref);
  const { name, epoch, owner } = item;
  const mine = ({ handover }: VolumeItem): boolean => handover?.to === catalogue.gateway;
  if (!mine(item) || item.handover?.state !== 'offered' || item.deletedAt !== undefined) return undefined;
  if (catalogue.volumes.some((each) => each.name === name && each.volume !== ref.volume)) {
    log.error(
      { volume: name, from: owner },
      'a volume is offered here, but another one of that name is kept here; forget that one first',
    );
    return undefined;
  }
  const accepted = { handover: { to: catalogue.gateway, state: 'accepted' as const } };
  if ((await table.changeVolume(ref, epoch, accepted)) !== 'ok') return undefined;
  log.info({ volume: name, from: owner }, 'a handover was accepted');
  const isReleased = (now: VolumeItem): boolean => mine(now) && now.handover?.state === 'released';
  const stays = (now: VolumeItem): boolean => mine(now) && now.epoch === epoch;
  if (!(await becomes(deps, ref, RELEASED_WITHIN_MS, isReleased, stays))) {
    log.warn({ volume: name, from: owner }, 'a handover was accepted, and the volume was not released');
    return undefined;
  }
  await present(name)?.close();
  const entry = { name, lineage: ref.lineage, volume: ref.volume, ...io.placeFor(ref.volume) };
  // Before it is opened: after a crash in between the next start opens it, unless its owner has taken it back.
  await catalogue.put(entry);
  const served = deps.reopen(entry);
  const failure = await served.firstAttempt;
  if (failure !== undefined)
    log.error({ volume: name, reason: failure.message }, 'a volume that was handed over could not be opened');
  return served;
}

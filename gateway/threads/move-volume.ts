import type { Clock } from '../base/clock.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Catalogue, CatalogueVolume } from '../catalogue.ts';
import { flushInTime } from '../flush-in-time.ts';
import type { ServedVolume } from '../served-volume.ts';
import type { VolumeTargets } from '../target-directory.ts';
import type { IoThreads } from './io-threads.ts';

export interface MoveDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly catalogue: Pick<Catalogue, 'put'>;
  readonly targets: VolumeTargets;
  readonly io: IoThreads;
  readonly sharesTarget: (volume: string) => readonly string[];
  /** Serves the volume as this entry has it. */
  readonly reopen: (entry: CatalogueVolume) => ServedVolume;
}

/**
 * `volume move`: the volume is another thread's from now on; its cached blocks are fetched again there. Everything acked is in the cloud, and nobody
 * can write any more, before the catalogue says so: from that moment on nothing is missing where the volume opens, and what the old thread has is of
 * no use. A crash before it leaves the volume where it was, one after it where it shall be. For initiators it is as a restart of the gateway.
 * Rejects with `input` (no such thread, a stored volume), `in-use` (it shares a target), `retry` (cloud away): nothing was changed then.
 */
export async function moveVolume(deps: MoveDeps, served: ServedVolume, thread: number): Promise<ServedVolume> {
  const { io, catalogue, log } = deps;
  const { entry } = served;
  const { thread: _from, ...unplaced } = entry;
  const moved = { ...unplaced, ...io.placeFor(entry.volume, thread) };
  const volume = served.serving();
  if (io.numberOf(entry.volume) === thread) return served;
  requireMovable(deps, entry, (await volume.status()).stored !== undefined);
  await flushInTime(deps, entry, volume, 'moved');
  // Who comes back meanwhile is to try again, as at a restart. Whoever opens it next says when that is over.
  const noLongerExpected = deps.targets.expect(entry);
  try {
    await served.withdraw();
    requireNotSanitizing(deps, entry);
    await flushInTime(deps, entry, volume, 'moved');
    requireMovable(deps, entry, false);
  } catch (error) {
    await served.offer();
    noLongerExpected();
    throw error;
  }
  const isAllCommitted = await served.close();
  const old = { mayOpen: true };
  try {
    // A map that was made since counts the volume to the old thread, and may have joined it to another one of that thread.
    await deps.targets.whileUnchanged(async () => {
      requireMovable(deps, entry, false);
      requireNotSanitizing(deps, entry);
      requireNothingSince(entry, isAllCommitted);
      try {
        await catalogue.put(moved);
      } catch (error) {
        // Perhaps it is on the disk after all. Until the old place is, nothing may be written there: it would be lost with the next start.
        old.mayOpen = false;
        await catalogue.put(entry);
        old.mayOpen = true;
        throw error;
      }
    });
  } catch (error) {
    if (old.mayOpen) deps.reopen(entry);
    throw error;
  }
  try {
    await io.of(entry).forgetVolume(entry);
  } catch (error) {
    log.warn(
      { volume: entry.name, error: describeError(error) },
      'what the thread had of the volume goes at the next start',
    );
  }
  return deps.reopen(moved);
}

/** A SANITIZE goes on without sessions: what it did after the last flush would be undone by the move, and it might have ended by then. */
function requireNotSanitizing({ targets }: MoveDeps, entry: CatalogueVolume): void {
  const reason = targets.notReady(entry);
  if (reason !== undefined) throw new FarshoreError('in-use', `volume ${entry.name} was not moved: ${reason}`);
}

/** A SANITIZE that was begun as its session was ended needs nobody to go on: it may have begun, and even ended, since the last flush. */
function requireNothingSince({ name }: CatalogueVolume, isAllCommitted: boolean): void {
  if (isAllCommitted) return;
  throw new FarshoreError(
    'retry',
    `volume ${name} was not moved, because it was written to while it was being closed (by a SANITIZE, say); it is served where it was. Try again`,
  );
}

function requireMovable({ sharesTarget }: MoveDeps, { name, volume }: CatalogueVolume, isStored: boolean): void {
  if (isStored) {
    throw new FarshoreError('input', `volume ${name} has an image on site, and stays on the thread it was created on`);
  }
  const others = sharesTarget(volume);
  if (others.length === 0) return;
  throw new FarshoreError(
    'in-use',
    `volume ${name} shares a target with ${others.join(', ')}, and the LUNs of a target are on one thread; unmap one of them there first`,
  );
}

import type { AccessControl } from '../access/access-control.ts';
import { systemClock, systemRandom } from '../base/clock.ts';
import type { Disk } from '../base/disk.ts';
import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { NodeImages } from '../base/node-images.ts';
import type { CacheLog } from '../cache/cache-log.ts';
import type { Settings } from '../config.ts';
import type { IscsiTargetServer } from '../iscsi/server.ts';
import type { ProcessFigures } from '../process-figures.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { ReplicationWorker } from '../replication/worker-client.ts';
import type { OpenVolume } from '../served-volume.ts';
import { sessionsHere } from '../sessions-control.ts';
import { directControl } from '../volume-control.ts';
import { copyTail, forgetVolume, surrenderVolume } from '../volume/open-volume.ts';
import { prepareImage } from '../volume/stored/prepare-image.ts';
import { Volume } from '../volume/volume.ts';
import type { CacheFigures, IoThread } from './io-thread.ts';

export interface IoHereDeps {
  readonly number: number;
  readonly settings: Pick<Settings, 'rpoSeconds' | 'remoteLossSeconds' | 'scrub'>;
  /** Identity of the gateway. */
  readonly gateway: string;
  /** The part of the state directory that is this thread's. */
  readonly disk: Disk;
  readonly cache: CacheLog;
  readonly replication: Pick<ReplicationWorker, 'openVolume'>;
  readonly server: IscsiTargetServer;
  readonly control: AccessControl;
  readonly processFigures: ProcessFigures;
  readonly log: Log;
}

const IMAGES = new NodeImages();

/** The volumes of this very thread, asked directly. */
export function ioHere(deps: IoHereDeps): IoThread {
  const { number, disk, cache, server, control, processFigures } = deps;
  return {
    ...sessionsHere(server, control),
    number,
    openVolume: volumeOpener(deps),
    prepareImage: (ref, request) => prepareImage({ disk, images: IMAGES, clock: systemClock }, ref, request),
    keeps: (volumes) => Promise.resolve(volumes.filter((volume) => cache.numbersOf(volume).length > 0)),
    forgetVolume: (ref) => forgetVolume(disk, cache, ref),
    surrenderVolume: (ref) => surrenderVolume(deps, ref),
    copyTail: (ref) => copyTail(deps, ref),
    cache: () => Promise.resolve(cacheFigures(cache)),
    figures: (newInterval) => Promise.resolve(processFigures.report(newInterval)),
  };
}

function cacheFigures(cache: CacheLog): CacheFigures {
  const status = cache.status();
  const report = {
    bytes: status.maxBytes,
    usedBytes: status.cachedBytes,
    dirtyBytes: status.dirtyBytes,
    indexBytes: status.indexBytes,
    ramBytes: status.ramBytes,
    counts: {
      ramHits: cache.ram.hits,
      fills: status.fills,
      moved: status.movedBlocks,
      evicted: status.evictedBlocks,
      reclaimedChunks: status.reclaimedChunks,
      readAhead: status.readAhead,
    },
    dirtyShare: status.dirtyShare,
    secondsUntilFull: status.secondsUntilFull,
    writeDelayMs: status.writeDelayMs,
    waitingWrites: status.waitingWrites,
    busyWrites: status.busyWrites,
    state: status.state.kind === 'stopped' ? `stopped: ${status.state.reason}` : (status.problem ?? 'serving'),
  };
  return { report, allocatedBytes: status.allocatedBytes };
}

/** Opens a volume with an engine of its own in the replication worker; a notice from the lease reaches the volume. */
function volumeOpener({ settings, gateway, disk, cache, replication, log }: IoHereDeps): OpenVolume {
  return async (ref, { takeover, rollBackTo, signal, onState }) => {
    let volume: Volume | undefined;
    let early: FarshoreError | undefined;
    const engine = replication.openVolume((error) => {
      early = error;
      volume?.onFenced(error.message);
    });
    const remote: RemoteVolume = {
      ...engine,
      open: (request) => unlessAborted(engine.open(request), signal),
      rollBackTo: (n) => unlessAborted(engine.rollBackTo(n), signal),
    };
    try {
      volume = await Volume.open(
        {
          disk,
          clock: systemClock,
          random: systemRandom,
          log: log.child({ part: 'volume' }),
          cache,
          remote,
          images: IMAGES,
          settings: {
            rpoMs: settings.rpoSeconds * 1000,
            hydrate: true,
            scrub: settings.scrub,
            remoteLossMs: settings.remoteLossSeconds * 1000,
          },
          ...(onState === undefined ? {} : { onStateChange: onState }),
        },
        { ref, gateway, takeover, rollBackTo },
      );
    } catch (error) {
      await remote.close();
      throw error;
    }
    if (early !== undefined) volume.onFenced(early.message);
    return directControl(volume, remote);
  };
}

/** The answer, or `stopped` at once when the signal aborts; then nobody hears what becomes of the work. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      reject(new FarshoreError('stopped', 'the volume was not opened, because it is being closed'));
    };
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    const end = (): void => {
      signal.removeEventListener('abort', giveUp);
    };
    work.then(resolve, reject).finally(end);
  });
}

import type { Clock } from '../base/clock.ts';
import { FarshoreError, isKind } from '../base/errors.ts';
import { inTime } from '../base/in-time.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';
import type { VolumeItem, VolumeRef } from '../cloud/version-log.ts';
import type { EndedSession } from '../iscsi/server.ts';
import type { PortalSettings } from '../iscsi/portals.ts';
import type { OpenPortal } from '../iscsi/target-registry.ts';
import type { ProcessReport } from '../process-figures.ts';
import type { FoldOutcome, RemoteStatus, VerifyReport, VersionSummary } from '../replication/remote-volume.ts';
import type { RpcClient, RpcPort } from '../replication/rpc.ts';
import { withBuffers } from '../replication/rpc.ts';
import type { ReservationReport } from '../scsi/reservations/report.ts';
import type { OpenVolume } from '../served-volume.ts';
import type { SeenSession } from '../sessions-control.ts';
import type { ScrubReport } from '../volume/scrubber.ts';
import type { VolumeStatus } from '../volume/volume-status.ts';
import type { VolumeControl, VolumeStanding } from '../volume-control.ts';
import type { AccessPeer } from './access-everywhere.ts';
import { tellThread } from './events.ts';
import type { CacheFigures, IoThread } from './io-thread.ts';
import { ACCESS, FIRST_VOLUME, type FromThread, THREAD } from './messages.ts';

/** How long a thread may take to tell how things stand: it has to do for that nothing that takes time. */
const ANSWER_WITHIN_MS = 3_000;

/** An I/O thread as the main thread has it. */
export interface IoProxy {
  readonly io: IoThread;
  readonly access: AccessPeer;
  /** Opens its portals and resolves with where they are; `in-use` when one cannot be opened. */
  listen(portals: readonly PortalSettings[]): Promise<readonly OpenPortal[]>;
  /** Asks its initiators to log out, and resolves when no write of theirs can land any more. */
  closeServer(): Promise<void>;
  /** What the thread told of a volume without being asked. */
  told(name: string, handle: number, detail: unknown): void;
}

/** Of a volume in the other thread. */
interface Watched {
  state: VolumeStatus['state'];
  readonly onState: ((state: VolumeStatus['state']) => void) | undefined;
  readonly scrubs: Map<number, (told: FromThread['scrub']) => void>;
}

/**
 * Calls what `IoHost` serves at the other end. Answers are what it gave, through structured cloning. What is only asked for rejects with `retry` when the
 * thread does not answer in time; what is done takes as long as it takes, or until the thread is given up (see ThreadWatch).
 */
export function ioProxy(number: number, client: RpcClient, port: RpcPort, clock: Clock): IoProxy {
  const call: Call = async <Result>(target: number, method: string, ...args: readonly unknown[]) =>
    (await client.call(target, method, args)) as Result;
  const silent = (): FarshoreError => new FarshoreError('retry', `I/O thread ${number} does not answer`);
  const ask: Call = (target, method, ...args) => inTime(clock, ANSWER_WITHIN_MS, call(target, method, ...args), silent);
  const watched = new Map<number, Watched>();
  let nextHandle = FIRST_VOLUME;

  const openVolume: OpenVolume = async (ref, { takeover, rollBackTo, signal, onState }) => {
    const handle = nextHandle;
    nextHandle += 1;
    const watch: Watched = { state: 'serving', onState, scrubs: new Map() };
    watched.set(handle, watch);
    const abort = (): void => {
      // Of a thread that is gone nothing is opened any more.
      call(handle, 'abort').catch(() => undefined);
    };
    const opening = call<Opened>(handle, 'open', ref, { takeover, rollBackTo });
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    try {
      const { item, epoch, state } = withBuffers(await opening) as Opened;
      // What was told since is newer, and told behind the answer.
      watch.state = state;
      return volumeProxy({ number, handle, item, epoch, watch, call, ask, forget: () => watched.delete(handle) });
    } catch (error) {
      watched.delete(handle);
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  };

  const io: IoThread = {
    number,
    openVolume,
    sessions: () => ask<readonly SeenSession[]>(THREAD, 'sessions'),
    session: async (tsih) =>
      (await ask<readonly SeenSession[]>(THREAD, 'sessions')).find((session) => session.tsih === tsih),
    endSession: (tsih, reason) => call<EndedSession | undefined>(THREAD, 'endSession', tsih, reason),
    reservations: (name) => ask<ReservationReport>(THREAD, 'reservations', name),
    clearReservations: (name) => call(THREAD, 'clearReservations', name),
    prepareImage: async (ref, request) => {
      await call(THREAD, 'prepareImage', ref, request);
      return { undo: () => call(THREAD, 'undoImage', ref.volume) };
    },
    keeps: (volumes) => call<readonly string[]>(THREAD, 'keeps', volumes),
    forgetVolume: (ref: VolumeRef) => call(THREAD, 'forgetVolume', ref),
    surrenderVolume: (ref) => call<string | undefined>(THREAD, 'surrenderVolume', ref),
    copyTail: (ref) => call<string | undefined>(THREAD, 'copyTail', ref),
    cache: () => ask<CacheFigures>(THREAD, 'cache'),
    figures: (newInterval) => ask<ProcessReport>(THREAD, 'figures', newInterval),
  };
  const access: AccessPeer = {
    number,
    document: (document, keys) => {
      tellThread(port, 'document', { document, keys });
    },
    unitState: (volume, state) => {
      tellThread(port, 'unit-state', { volume, state });
    },
    keys: (keys) => {
      tellThread(port, 'keys', { keys });
    },
    expect: (volume, on) => {
      tellThread(port, 'expect', { volume, on });
    },
    elsewhere: (volume, thread) => {
      tellThread(port, 'elsewhere', { volume, thread });
    },
    servedAt: (thread, portals) => {
      tellThread(port, 'served-at', { thread, portals });
    },
    offer: (handle, volume) => call(ACCESS, 'offer', handle, volume),
    withdraw: (volume) => unlessGone(call(ACCESS, 'withdraw', volume)),
    enforced: () => call(ACCESS, 'enforced'),
    sessions: (volume) => ask<number>(ACCESS, 'sessions', volume),
  };
  return {
    io,
    access,
    listen: (portals) => call<readonly OpenPortal[]>(THREAD, 'listen', portals),
    closeServer: () => unlessGone(call(THREAD, 'closeServer')),
    told: (name, handle, detail) => {
      const watch = watched.get(handle);
      if (watch === undefined) return;
      if (name === 'state') {
        const { state } = detail as FromThread['state'];
        watch.state = state;
        watch.onState?.(state);
      } else if (name === 'scrub') {
        const scrub = detail as FromThread['scrub'];
        watch.scrubs.get(scrub.watch)?.(scrub);
      }
    },
  };
}

type Call = <Result>(target: number, method: string, ...args: readonly unknown[]) => Promise<Result>;

interface Opened {
  readonly item: VolumeItem;
  readonly epoch: Epoch;
  readonly state: VolumeStatus['state'];
}

interface VolumeEnd extends Omit<Opened, 'state'> {
  readonly number: number;
  readonly handle: number;
  readonly watch: Watched;
  readonly call: Call;
  readonly ask: Call;
  readonly forget: () => void;
}

function volumeProxy({ number, handle, item, epoch, watch, call, ask, forget }: VolumeEnd): VolumeControl {
  let nextScrub = 1;
  return {
    item,
    epoch,
    place: { thread: number, handle },
    get state() {
      return watch.state;
    },
    status: () => ask<VolumeStanding>(handle, 'status'),
    flushRemote: () => call<{ readonly n: VersionNumber }>(handle, 'flushRemote'),
    resize: (bytes) => call(handle, 'resize', bytes),
    setQuota: (bytes) => call(handle, 'setQuota', bytes),
    setReplication: (replication) => call(handle, 'setReplication', replication),
    scrub: async (sides, fast, onProgress) => {
      const scrub = nextScrub;
      nextScrub += 1;
      watch.scrubs.set(scrub, ({ side, report }) => {
        onProgress(side, report);
      });
      try {
        return await call<ScrubReport>(handle, 'scrub', sides, fast, scrub);
      } finally {
        watch.scrubs.delete(scrub);
      }
    },
    remote: {
      versions: (limit) => call<readonly VersionSummary[]>(handle, 'versions', limit),
      fold: () => call<FoldOutcome>(handle, 'fold'),
      verify: () => call<VerifyReport>(handle, 'verify'),
      status: () => ask<RemoteStatus>(handle, 'remoteStatus'),
    },
    close: async () => {
      let isAllCommitted = false;
      await unlessGone(
        call<boolean>(handle, 'close').then((answer) => {
          isAllCommitted = answer;
        }),
      );
      watch.state = 'stopped';
      forget();
      return isAllCommitted;
    },
  };
}

/** A thread that is gone has closed everything: what it had acked is in its log. */
export async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isKind(error, 'retry')) throw error;
  }
}

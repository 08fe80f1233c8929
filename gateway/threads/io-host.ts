import type { AccessControl } from '../access/access-control.ts';
import type { SecretBox } from '../access/secret-box.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import type { VersionNumber } from '../base/units.ts';
import type { VolumeRef } from '../cloud/version-log.ts';
import type { AdoptedVolume } from '../access/part.ts';
import type { IscsiTargetServer } from '../iscsi/server.ts';
import type { PortalSettings } from '../iscsi/portals.ts';
import type { Answer, RpcPort } from '../replication/rpc.ts';
import { serveCalls } from '../replication/rpc.ts';
import type { Replication } from '../volume/replication-control.ts';
import type { ScrubSide } from '../volume/scrub-pass.ts';
import type { ImageRequest, PreparedImage } from '../volume/stored/prepare-image.ts';
import type { VolumeControl } from '../volume-control.ts';
import type { AccessMirror } from './access-mirror.ts';
import { tellMain } from './events.ts';
import type { IoThread } from './io-thread.ts';
import { ACCESS, FIRST_VOLUME, THREAD, type ToThread } from './messages.ts';

export interface IoHostDeps {
  readonly io: IoThread;
  readonly server: IscsiTargetServer;
  readonly control: AccessControl;
  readonly mirror: AccessMirror;
  readonly secrets: Pick<SecretBox, 'follow'>;
  /** Ends what the thread has besides volumes and sessions. */
  readonly close: () => Promise<void>;
}

/** A volume that is open, or being opened. */
interface Hosted {
  readonly opening: AbortController;
  volume: VolumeControl | undefined;
}

/**
 * One I/O thread behind a message port: what the main thread asks of its volumes, sessions and access control, answered by the same objects
 * that the main thread has for its own volumes. Shapes of arguments are those of `io-proxy`, compiled from the same types.
 */
export class IoHost {
  readonly #deps: IoHostDeps;
  readonly #port: RpcPort;
  readonly #volumes = new Map<number, Hosted>();
  /** Images of volumes that are being created, by volume. */
  readonly #images = new Map<string, PreparedImage>();
  readonly #expected = new Map<string, () => void>();

  constructor(deps: IoHostDeps, port: RpcPort) {
    this.#deps = deps;
    this.#port = port;
    serveCalls(port, (target, method, args) => this.#dispatch(target, method, args));
  }

  /** What the main thread told without being asked. */
  told(name: string, detail: unknown): void {
    const { control, mirror, secrets } = this.#deps;
    switch (name as keyof ToThread) {
      case 'document': {
        const { document, keys } = detail as ToThread['document'];
        secrets.follow(keys);
        mirror.follow(document);
        return;
      }
      case 'unit-state': {
        const { volume, state } = detail as ToThread['unit-state'];
        mirror.followUnitState(volume, state);
        return;
      }
      case 'keys':
        secrets.follow((detail as ToThread['keys']).keys);
        control.keysChanged();
        return;
      case 'expect': {
        const { volume, on } = detail as ToThread['expect'];
        this.#expected.get(volume)?.();
        this.#expected.delete(volume);
        if (on) this.#expected.set(volume, control.expect(volume));
        return;
      }
      case 'elsewhere': {
        const { volume, thread } = detail as ToThread['elsewhere'];
        control.offerElsewhere(volume, thread);
        return;
      }
      case 'served-at': {
        const { thread, portals } = detail as ToThread['served-at'];
        control.servedAt(thread, portals);
      }
    }
  }

  async #dispatch(target: number, method: string, args: readonly unknown[]): Promise<Answer> {
    if (target === THREAD) return { value: await this.#threadCall(method, args) };
    if (target === ACCESS) return { value: await this.#accessCall(method, args) };
    return { value: await this.#volumeCall(target, method, args) };
  }

  async #threadCall(method: string, args: readonly unknown[]): Promise<unknown> {
    const { io, server } = this.#deps;
    switch (method) {
      case 'sessions':
        return io.sessions();
      case 'endSession':
        return io.endSession(args[0] as number, args[1] as string | undefined);
      case 'reservations':
        return io.reservations(args[0] as string);
      case 'clearReservations':
        return io.clearReservations(args[0] as string);
      case 'prepareImage': {
        const ref = args[0] as VolumeRef;
        this.#images.set(ref.volume, await io.prepareImage(ref, args[1] as ImageRequest));
        return undefined;
      }
      case 'undoImage': {
        const image = this.#images.get(args[0] as string);
        this.#images.delete(args[0] as string);
        return image?.undo();
      }
      case 'keeps':
        return io.keeps(args[0] as readonly string[]);
      case 'forgetVolume':
        return io.forgetVolume(args[0] as VolumeRef);
      case 'surrenderVolume':
        return io.surrenderVolume(args[0] as VolumeRef);
      case 'copyTail':
        return io.copyTail(args[0] as VolumeRef);
      case 'cache':
        return io.cache();
      case 'figures':
        return io.figures(args[0] as boolean);
      case 'listen':
        return server.listen(args[0] as readonly PortalSettings[]);
      case 'closeServer':
        return server.close(true);
      case 'ping':
        return undefined;
      case 'close':
        return this.#deps.close();
      default:
        throw new FarshoreError('bug', `an I/O thread has no '${method}'`);
    }
  }

  async #accessCall(method: string, args: readonly unknown[]): Promise<unknown> {
    const { control } = this.#deps;
    switch (method) {
      case 'offer': {
        const place = this.#volumes.get(args[0] as number)?.volume?.place;
        invariant(place !== undefined && 'device' in place, 'a volume that is offered is open in its thread');
        control.offer(args[1] as AdoptedVolume, place.device);
        return undefined;
      }
      case 'withdraw':
        return control.withdraw(args[0] as string);
      case 'enforced':
        return control.enforced();
      case 'sessions':
        return control.sessions(args[0] as string);
      default:
        throw new FarshoreError('bug', `the access control of an I/O thread has no '${method}'`);
    }
  }

  async #volumeCall(handle: number, method: string, args: readonly unknown[]): Promise<unknown> {
    invariant(handle >= FIRST_VOLUME, `volumes are numbered from ${FIRST_VOLUME}`);
    if (method === 'open') return this.#open(handle, args[0] as VolumeRef, args[1] as OpenHow);
    const hosted = this.#volumes.get(handle);
    if (method === 'abort') {
      hosted?.opening.abort();
      return undefined;
    }
    if (method === 'close') {
      const isAllCommitted = await hosted?.volume?.close();
      this.#volumes.delete(handle);
      return isAllCommitted ?? false;
    }
    const volume = hosted?.volume;
    if (volume === undefined) throw new FarshoreError('stopped', 'the volume is not open');
    switch (method) {
      case 'status':
        return volume.status();
      case 'flushRemote':
        return volume.flushRemote();
      case 'resize':
        return volume.resize(args[0] as number);
      case 'setQuota':
        return volume.setQuota(args[0] as number | undefined);
      case 'setReplication':
        return volume.setReplication(args[0] as Replication);
      case 'scrub': {
        const [sides, fast, watch] = args as [readonly ScrubSide[], boolean, number];
        return volume.scrub(sides, fast, (side, report) => {
          tellMain(this.#port, 'scrub', { watch, side, report }, handle);
        });
      }
      case 'versions':
        return volume.remote.versions(args[0] as number);
      case 'fold':
        return volume.remote.fold();
      case 'verify':
        return volume.remote.verify();
      case 'remoteStatus':
        return volume.remote.status();
      default:
        throw new FarshoreError('bug', `a volume has no '${method}'`);
    }
  }

  async #open(handle: number, ref: VolumeRef, how: OpenHow): Promise<unknown> {
    const hosted: Hosted = { opening: new AbortController(), volume: undefined };
    this.#volumes.set(handle, hosted);
    // It is the volume's now.
    this.#images.delete(ref.volume);
    try {
      const volume = await this.#deps.io.openVolume(ref, {
        ...how,
        signal: hosted.opening.signal,
        onState: (state) => {
          tellMain(this.#port, 'state', { state }, handle);
        },
      });
      hosted.volume = volume;
      const { item, epoch, state } = volume;
      return { item, epoch, state };
    } catch (error) {
      this.#volumes.delete(handle);
      throw error;
    }
  }
}

interface OpenHow {
  readonly takeover: boolean;
  readonly rollBackTo: VersionNumber | undefined;
}

import type { BlockDevice } from '../../gateway/base/block-device.ts';
import type { CancelTimer, Clock } from '../../gateway/base/clock.ts';
import { systemRandom } from '../../gateway/base/clock.ts';
import { silentLog } from '../../gateway/base/log.ts';
import { MIB } from '../../gateway/base/units.ts';
import type { PortalSettings } from '../../gateway/iscsi/portals.ts';
import { IscsiTargetServer } from '../../gateway/iscsi/server.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../gateway/iscsi/settings.ts';
import type { IscsiSettings } from '../../gateway/iscsi/settings.ts';
import type {
  AccessEvent,
  Authorization,
  ChapRequirement,
  Initiator,
  IscsiTarget,
  MappedLun,
  TargetRegistry,
} from '../../gateway/iscsi/target-registry.ts';
import { RamDevice } from './ram-device.ts';
import { RawInitiator } from './raw-initiator.ts';
import type { LoginOptions } from './raw-initiator.ts';

export const TARGET = 'iqn.2026-11.dev.farshore.test:disk';

/** A clock that stands still until the test moves it. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ readonly at: number; readonly fire: () => void }>();

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  startTimer(delayMs: number, fire: () => void): CancelTimer {
    const timer = { at: this.#now + delayMs, fire };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  /** Lets time pass, firing timers in order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = due.at;
      due.fire();
    }
    this.#now = end;
  }
}

export interface WorldOptions {
  readonly settings?: Partial<IscsiSettings>;
  readonly luns?: ReadonlyMap<number, BlockDevice>;
  readonly portals?: readonly PortalSettings[];
}

/** Everything is open to everybody until a test says otherwise, at any time. */
export class WorldRegistry implements TargetRegistry {
  readonly targets = new Map<string, IscsiTarget>();
  readonly events: AccessEvent[] = [];
  /** Overrules `authorize` where it gives an answer. */
  judge: (targetName: string, initiator: Initiator, portalAddress: string) => Authorization | undefined = () =>
    undefined;
  /** What may be discovered. */
  shows: (target: IscsiTarget, initiator: Initiator, portalAddress: string) => boolean = () => true;
  chap: ChapRequirement | undefined;
  demands = false;
  chapForDiscovery: (initiator: Initiator) => ChapRequirement | undefined = () => undefined;

  authorize(targetName: string, initiator: Initiator, portalAddress: string): Authorization {
    const judged = this.judge(targetName, initiator, portalAddress);
    if (judged !== undefined) return judged;
    const target = this.targets.get(targetName);
    return target === undefined ? { kind: 'not-found' } : { kind: 'allowed', target, chap: this.chap };
  }

  discover(initiator: Initiator, portalAddress: string): IscsiTarget[] {
    return [...this.targets.values()].filter((target) => this.shows(target, initiator, portalAddress));
  }

  demandsProof(): boolean {
    return this.demands;
  }

  discoveryChap(initiator: Initiator): ChapRequirement | undefined {
    return this.chapForDiscovery(initiator);
  }

  onEvent(event: AccessEvent): void {
    this.events.push(event);
  }
}

/** A target server on loopback with one RAM device (and whatever else the test maps), and initiators to talk to it. */
export class IscsiWorld {
  readonly clock = new ManualClock();
  readonly device = new RamDevice({ bytes: 8 * MIB });
  readonly luns: Map<number, BlockDevice>;
  /** LUNs an initiator does not see, or may only read. */
  masked: (lun: number, initiator: Initiator) => boolean = () => false;
  readOnly: (lun: number, initiator: Initiator) => boolean = () => false;
  readonly registry = new WorldRegistry();
  readonly targets = this.registry.targets;
  readonly server: IscsiTargetServer;
  readonly #initiators: RawInitiator[] = [];
  /** Of each portal. */
  ports: readonly number[] = [];

  private constructor(options: WorldOptions) {
    this.luns = new Map(options.luns ?? [[0, this.device]]);
    this.targets.set(TARGET, { name: TARGET, luns: (initiator) => this.#seenBy(initiator) });
    this.server = new IscsiTargetServer({
      log: silentLog,
      clock: this.clock,
      random: systemRandom,
      targets: this.registry,
      settings: { ...DEFAULT_ISCSI_SETTINGS, ...options.settings },
    });
  }

  #seenBy(initiator: Initiator): ReadonlyMap<number, MappedLun> {
    const seen = new Map<number, MappedLun>();
    for (const [lun, device] of this.luns) {
      if (this.masked(lun, initiator)) continue;
      seen.set(lun, { device, readOnly: this.readOnly(lun, initiator), state: undefined });
    }
    return seen;
  }

  static async start(options: WorldOptions = {}): Promise<IscsiWorld> {
    const world = new IscsiWorld(options);
    const portals = await world.server.listen(options.portals ?? [{ host: '127.0.0.1', port: 0 }]);
    world.ports = portals.map(({ port }) => port);
    return world;
  }

  /** Of the first portal. */
  get port(): number {
    return this.ports[0] ?? 0;
  }

  async connect(port = this.port, host = '127.0.0.1'): Promise<RawInitiator> {
    const initiator = await RawInitiator.connect(port, host);
    this.#initiators.push(initiator);
    return initiator;
  }

  /** Logged in to the target, unit attentions cleared. */
  async ready(options: LoginOptions = {}): Promise<RawInitiator> {
    const initiator = await this.connect();
    await initiator.login({ target: TARGET, ...options });
    await initiator.clear();
    return initiator;
  }

  async stop(): Promise<void> {
    for (const initiator of this.#initiators) initiator.destroy();
    await this.server.close(false);
  }
}

/** A promise and its resolver. */
export function gate(): { readonly opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

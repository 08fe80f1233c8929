import type { BlockDevice, DeviceGeometry, MaybePromise } from '../base/block-device.ts';
import type { Clock } from '../base/clock.ts';
import { Reservations } from './reservations/reservations.ts';
import { Sanitizer } from './sanitize/sanitizer.ts';
import { SENSE } from './sense.ts';
import type { Sense } from './sense.ts';
import type { UnitCommand } from './traits.ts';
import { UnitAttentions } from './unit-attentions.ts';
import { UnitDocument } from './unit-document.ts';
import { UnitMedia } from './unit-media.ts';
import type { UnitStateStore } from './unit-state.ts';

/** The target port a nexus goes through, as VPD 83h names it. */
export interface TargetPort {
  /** iSCSI name of the target. */
  readonly targetName: string;
  readonly portalGroupTag: number;
}

/** The initiator port a nexus comes from: persistent reservations know it by this name over sessions (SPC-4 5.13.5.2). */
export interface InitiatorPort {
  /** Normalised iSCSI name of the initiator. */
  readonly name: string;
  /** Initiator session identifier, 12 hexadecimal digits. */
  readonly isid: string;
}

/** One initiator port at one logical unit (I_T_L nexus, SAM-5 4.8): what is pending for it. */
export class UnitNexus {
  readonly unit: LogicalUnit;
  readonly port: TargetPort;
  readonly initiator: InitiatorPort;
  readonly #attentions = new UnitAttentions();
  #readOnly = false;
  #neighbours = (): Iterable<UnitNexus> => [this];
  #siblings = (): Iterable<UnitNexus> => [this];

  constructor(unit: LogicalUnit, port: TargetPort, initiator: InitiatorPort) {
    this.unit = unit;
    this.port = port;
    this.initiator = initiator;
  }

  /** Whether this initiator may not change the medium; it can change at any time, and counts for the next command. */
  get readOnly(): boolean {
    return this.#readOnly;
  }

  setReadOnly(readOnly: boolean): void {
    this.#readOnly = readOnly;
  }

  /** What the initiator sees through the same session, this unit included: third-party copies reach no further. */
  neighbours(): Iterable<UnitNexus> {
    return this.#neighbours();
  }

  /** `siblings`: those of its neighbours that there are already. */
  setNeighbours(neighbours: () => Iterable<UnitNexus>, siblings = neighbours): void {
    this.#neighbours = neighbours;
    this.#siblings = siblings;
  }

  get hasAttention(): boolean {
    return this.#attentions.any;
  }

  /** Queues a unit attention, once. */
  raise(sense: Sense): void {
    this.#attentions.raise(sense);
  }

  /** The pending unit attention to tell now: told and so gone. */
  takeAttention(): Sense | undefined {
    const sense = this.#attentions.take();
    if (sense !== undefined && isSame(sense, SENSE.lunsChanged)) this.lunsTold();
    return sense;
  }

  /**
   * The initiator knows that its LUNs have changed: by REPORT LUNS, or because it was told so at one of them, after which no other tells it
   * (LUICLR of VPD page 86h).
   */
  lunsTold(): void {
    for (const nexus of this.#siblings()) nexus.dropAttention(SENSE.lunsChanged);
  }

  isPending(sense: Sense): boolean {
    return this.#attentions.isPending(sense);
  }

  /** Drops a pending condition that the initiator has just learned by other means. */
  dropAttention(sense: Sense): void {
    this.#attentions.drop(sense);
  }
}

/**
 * What the transport does for PREEMPT AND ABORT (SPC-4 5.13.11.2.6): at once it aborts the commands that came through
 * such nexuses and are of such a kind, but for the one that asks; the promise resolves when none of them can change the medium any more, nor
 * one of a nexus that was lost before.
 */
export type AbortTasks = (
  concerns: (nexus: UnitNexus, command: UnitCommand) => boolean,
  except: object,
) => MaybePromise<void>;

/** One block device as SCSI sees it: shared by every session of every target that maps it. */
export class LogicalUnit {
  readonly device: BlockDevice;
  /** What its commands share beside the device. */
  readonly media = new UnitMedia();
  /** What is kept over power loss. */
  readonly document: UnitDocument;
  readonly reservations: Reservations;
  readonly sanitizer: Sanitizer;
  readonly abortTasks: AbortTasks;
  readonly #nexuses = new Set<UnitNexus>();
  /** I_T nexuses that were lost since power on, oldest first. */
  readonly #lost = new Set<string>();
  #knownSectors: number;
  #spaceNotices: number;
  #limitChanges: number;

  constructor(device: BlockDevice, state: UnitStateStore | undefined, abortTasks: AbortTasks, clock: Clock) {
    this.device = device;
    this.abortTasks = abortTasks;
    this.document = new UnitDocument(state);
    this.reservations = new Reservations(this);
    this.sanitizer = new Sanitizer(device, this.media.extents, this.document, clock);
    this.#knownSectors = device.geometry().sectors;
    this.#spaceNotices = device.lowSpace?.notices ?? 0;
    this.#limitChanges = device.lowSpace?.changes ?? 0;
  }

  /** A new I_T_L nexus; its first command is told of the power on, or of the loss of the nexus there was before (SAM-5 5.14). */
  join(port: TargetPort, initiator: InitiatorPort): UnitNexus {
    const nexus = new UnitNexus(this, port, initiator);
    nexus.raise(this.#lost.delete(nameOf(nexus)) ? SENSE.nexusLoss : SENSE.powerOn);
    this.#nexuses.add(nexus);
    return nexus;
  }

  leave(nexus: UnitNexus): void {
    if (!this.#nexuses.delete(nexus)) return;
    this.reservations.nexusLost(nexus);
    this.media.preventing.delete(nexus);
    if (nexus.isPending(SENSE.powerOn)) return; // it has not learned of that yet
    const [oldest] = this.#lost;
    if (this.#lost.size >= MAX_LOST && oldest !== undefined) this.#lost.delete(oldest);
    this.#lost.add(nameOf(nexus));
  }

  /** Raises a unit attention for every nexus but `except`. */
  raiseForAll(sense: Sense, except?: UnitNexus): void {
    for (const nexus of this.#nexuses) if (nexus !== except) nexus.raise(sense);
  }

  /** The present geometry; a changed capacity, or space that runs low, becomes a unit attention for everybody (SBC-3). */
  geometry(): DeviceGeometry {
    const geometry = this.device.geometry();
    if (geometry.sectors !== this.#knownSectors) {
      this.#knownSectors = geometry.sectors;
      this.raiseForAll(SENSE.capacityChanged);
    }
    const { lowSpace } = this.device;
    if (lowSpace !== undefined && lowSpace.notices !== this.#spaceNotices) {
      const { notices, changes = 0 } = lowSpace;
      const changed = changes - this.#limitChanges;
      // Another limit is another threshold in the mode page (SBC-4 6.5.9).
      if (changed > 0) this.raiseForAll(SENSE.modeParametersChanged);
      if (notices - this.#spaceNotices > changed) this.raiseForAll(SENSE.softThresholdReached);
      this.#spaceNotices = notices;
      this.#limitChanges = changes;
    }
    return geometry;
  }

  /** Logical unit reset: tasks are ended by the caller; what is left is to tell every nexus (SAM-5 6.3.3). */
  reset(): void {
    this.media.reset();
    this.reservations.reset();
    this.raiseForAll(SENSE.busDeviceReset);
  }

  /** Logical unit reset by one that may only read: what is its own ends, and it alone is told. */
  resetFor(nexus: UnitNexus): void {
    this.media.preventing.delete(nexus);
    this.reservations.nexusLost(nexus);
    nexus.raise(SENSE.busDeviceReset);
  }

  /** Whether the nexus is not lost. */
  has(nexus: UnitNexus): boolean {
    return this.#nexuses.has(nexus);
  }

  /** Every nexus there is now. */
  nexuses(): Iterable<UnitNexus> {
    return this.#nexuses;
  }
}

function isSame(a: Sense, b: Sense): boolean {
  return a.asc === b.asc && a.ascq === b.ascq;
}

/** So many lost nexuses are remembered; one that is not is told of a power on, which says no less. */
const MAX_LOST = 256;

function nameOf({ initiator, port }: UnitNexus): string {
  return `${initiator.name},${initiator.isid},${port.targetName}`;
}

/** The logical unit of each device, made on first use: two targets that map one device share its state. */
export class LogicalUnits {
  readonly #byDevice = new WeakMap<BlockDevice, LogicalUnit>();
  readonly #abortTasks: AbortTasks;
  readonly #clock: Clock;

  constructor(abortTasks: AbortTasks, clock: Clock) {
    this.#abortTasks = abortTasks;
    this.#clock = clock;
  }

  /** `state` is looked at when the unit is made. */
  of(device: BlockDevice, state: UnitStateStore | undefined): LogicalUnit {
    let unit = this.#byDevice.get(device);
    if (unit === undefined) {
      unit = new LogicalUnit(device, state, this.#abortTasks, this.#clock);
      this.#byDevice.set(device, unit);
    }
    return unit;
  }
}

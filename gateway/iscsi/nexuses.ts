import type { BlockDevice } from '../base/block-device.ts';
import type { InitiatorPort, LogicalUnit, LogicalUnits, TargetPort, UnitNexus } from '../scsi/logical-unit.ts';
import { SENSE } from '../scsi/sense.ts';
import { changesMedium } from '../scsi/traits.ts';
import type { MappedLun } from './target-registry.ts';
import type { Task } from './task.ts';

export interface NexusesDeps {
  /** What the initiator sees at this moment. */
  luns(): ReadonlyMap<number, MappedLun>;
  readonly units: LogicalUnits;
  readonly port: TargetPort;
  readonly initiator: InitiatorPort;
}

/** Which commands a change of access forbids. */
export interface AccessChange {
  /** Their LUN is gone, or has another unit behind it. */
  readonly isLost: (task: Task) => boolean;
  /** They change a medium that may only be read now, or copy from or to one that is gone. */
  readonly isDenied: (task: Task) => boolean;
}

/** The I_T_L nexuses of one session: one to each logical unit that it has used and may still use. */
export class Nexuses {
  readonly #deps: NexusesDeps;
  readonly #byLun = new Map<number, UnitNexus>();
  /** LUNs whose unit the initiator has known: what comes next there is another one (SPC-4 6.6.1). */
  readonly #replaced = new Set<number>();
  /** What was behind each LUN when access last changed. */
  #known: ReadonlyMap<number, BlockDevice>;
  #ended = false;

  constructor(deps: NexusesDeps) {
    this.#deps = deps;
    this.#known = devicesOf(deps.luns());
  }

  /** LUNs the initiator sees. */
  luns(): Iterable<number> {
    return this.#deps.luns().keys();
  }

  /** The nexus to the unit that is mapped to the LUN now; a unit mapped anew is a new nexus. */
  of(lun: number): UnitNexus | undefined {
    if (this.#ended) return undefined; // a copy that still runs gets no new one
    const mapped = this.#deps.luns().get(lun);
    const known = this.#update(lun, mapped);
    if (known !== undefined || mapped === undefined) return known;
    const nexus = this.#deps.units.of(mapped.device, mapped.state).join(this.#deps.port, this.#deps.initiator);
    nexus.setReadOnly(mapped.readOnly);
    if (this.#replaced.delete(lun)) nexus.raise(SENSE.inquiryChanged);
    nexus.setNeighbours(
      () => this.#toEveryUnit(),
      () => this.#byLun.values(),
    );
    this.#byLun.set(lun, nexus);
    return nexus;
  }

  *#toEveryUnit(): Iterable<UnitNexus> {
    for (const lun of this.luns()) {
      const nexus = this.of(lun);
      if (nexus !== undefined) yield nexus;
    }
  }

  /** The nexus to what is mapped to the LUN now, if there is one already. */
  #update(lun: number, mapped: MappedLun | undefined): UnitNexus | undefined {
    const known = this.#byLun.get(lun);
    if (known === undefined) return undefined;
    if (known.unit.device === mapped?.device) {
      known.setReadOnly(mapped.readOnly);
      return known;
    }
    known.unit.leave(known);
    this.#byLun.delete(lun);
    this.#replaced.add(lun);
    return undefined;
  }

  /** The initiator has asked for its LUNs at one that has no unit. */
  lunsTold(): void {
    for (const nexus of this.#byLun.values()) nexus.dropAttention(SENSE.lunsChanged);
  }

  all(): Iterable<UnitNexus> {
    return this.#byLun.values();
  }

  /** The unit of every mapped LUN, and whether the initiator may only read it. */
  allUnits(): readonly { readonly unit: LogicalUnit; readonly readOnly: boolean }[] {
    return [...this.#deps.luns().values()].map(({ device, readOnly, state }) => ({
      unit: this.#deps.units.of(device, state),
      readOnly,
    }));
  }

  /** What the LUNs as they are now forbid. */
  change(): AccessChange {
    const seen = this.#deps.luns();
    const visible = new Map<BlockDevice, 'reads' | 'writes'>();
    for (const { device, readOnly } of seen.values())
      if (visible.get(device) !== 'writes') visible.set(device, readOnly ? 'reads' : 'writes');
    return {
      isLost: ({ lun, nexus }) => seen.get(lun)?.device !== nexus.unit.device,
      // What a copy has not come to yet it looks up when it does.
      isDenied: ({ lun, command, touches }) =>
        touches === undefined
          ? seen.get(lun)?.readOnly === true && changesMedium(command)
          : [...touches].some(
              ([{ device }, does]) => !visible.has(device) || (does === 'writes' && visible.get(device) !== does),
            ),
    };
  }

  /** Drops lost nexuses and tells those that are left of what has changed (SPC-4 6.33, 7.5.1). */
  follow(): void {
    const seen = this.#deps.luns();
    for (const [lun, nexus] of [...this.#byLun]) {
      const wasReadOnly = nexus.readOnly;
      // The write protect bit of MODE SENSE follows.
      if (this.#update(lun, seen.get(lun))?.readOnly === !wasReadOnly) nexus.raise(SENSE.modeParametersChanged);
    }
    const before = this.#known;
    this.#known = devicesOf(seen);
    const isSame = before.size === seen.size && [...before].every(([lun, device]) => this.#known.get(lun) === device);
    if (!isSame) for (const nexus of this.#byLun.values()) nexus.raise(SENSE.lunsChanged);
  }

  /** The session is over: what still runs finds no unit any more. */
  end(): void {
    this.#ended = true;
    for (const nexus of this.#byLun.values()) nexus.unit.leave(nexus);
    this.#byLun.clear();
  }
}

function devicesOf(luns: ReadonlyMap<number, MappedLun>): ReadonlyMap<number, BlockDevice> {
  return new Map([...luns].map(([lun, { device }]) => [lun, device]));
}

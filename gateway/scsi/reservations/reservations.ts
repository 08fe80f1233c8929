import type { MaybePromise } from '../../base/block-device.ts';
import { STATUS } from '../constants.ts';
import type { CommandLife } from '../dispatch.ts';
import type { InitiatorPort, LogicalUnit, UnitNexus } from '../logical-unit.ts';
import { GOOD, parameterData, plainStatus } from '../result.ts';
import type { ScsiResult } from '../result.ts';
import { SENSE, checkCondition, resultOfError } from '../sense.ts';
import type { UnitCommand } from '../traits.ts';
import { passesLegacyReservation, reservedAccess } from './access.ts';
import { reportOf } from './report.ts';
import type { ReservationReport } from './report.ts';
import { decodeRegistry, encodeRegistry, isTooLarge } from './kept.ts';
import { encodeReserveIn } from './parameter-data.ts';
import type { ReserveInAction } from './parameter-data.ts';
import { decodeReserveOut } from './parameter-list.ts';
import type { ReserveOutCommand } from './parameter-list.ts';
import { asReader, disturbsOthers } from './read-only.ts';
import {
  EMPTY_REGISTRY,
  covers,
  isExclusiveAccess,
  isHolder,
  isSameNexus,
  isSamePort,
  registrationOf,
  sparesRegistrants,
} from './registry.ts';
import type { ItNexus, Registration, Registry } from './registry.ts';
import type { NamedPort } from './requests.ts';
import { transition } from './transition.ts';
import type { Notice, Transition } from './transition.ts';
import { withdraw } from './withdrawal.ts';
import type { Reaches } from './withdrawal.ts';

const CONFLICT = plainStatus(STATUS.reservationConflict);
/** Nobody hears of it. */
const ABORTED = plainStatus(STATUS.taskAborted);

/** What the persistent reservation lets a nexus do. */
type Standing = 'free' | 'may-read' | 'barred';

/** A result, and what has to be over before it may be given. */
interface Settling {
  readonly result: ScsiResult;
  readonly first: MaybePromise<void>;
}

/**
 * The reservations of a logical unit: persistent ones (SPC-4 5.13), and those of RESERVE and RELEASE (SPC-2). What
 * persists through power loss is durable before it takes effect and before it is answered.
 */
export class Reservations {
  readonly #unit: LogicalUnit;
  #registry: Registry = EMPTY_REGISTRY;
  /** Who has the unit by RESERVE. */
  #legacyHolder: ItNexus | undefined;
  /** What `#registry` means for each nexus, as far as it was asked. */
  #standings = new WeakMap<UnitNexus, Standing>();
  /** Commands that change reservations, under way or waiting for their turn. */
  #inTurn = 0;
  #lastTurn: Promise<unknown> = Promise.resolve();

  constructor(unit: LogicalUnit) {
    this.#unit = unit;
    const registry = decodeRegistry(unit.document.section('reservations'));
    if (registry === undefined) unit.document.markDamaged('reservations');
    else this.#registry = registry;
  }

  /** Nobody has reserved anything: no command can conflict. */
  get areNone(): boolean {
    return this.#legacyHolder === undefined && this.#registry.reservation === undefined;
  }

  /** Whether the command must be answered RESERVATION CONFLICT (SPC-4 table 65, SBC-3 table 13). */
  refuses(nexus: UnitNexus, command: UnitCommand): boolean {
    if (this.areNone) return false;
    if (this.#legacyHolder !== undefined && !isSameNexus(this.#legacyHolder, itNexus(nexus)))
      return !passesLegacyReservation(command);
    const access = reservedAccess(command);
    if (this.#registry.reservation === undefined || access === 'always' || access === 'itself') return false;
    const standing = this.#standing(nexus);
    return standing === 'barred' || (standing === 'may-read' && access === 'changing');
  }

  #standing(nexus: UnitNexus): Standing {
    const known = this.#standings.get(nexus);
    if (known !== undefined) return known;
    const standing = standingOf(this.#registry, itNexus(nexus));
    this.#standings.set(nexus, standing);
    return standing;
  }

  /** PERSISTENT RESERVE IN (SPC-4 6.15). */
  in(command: { readonly action: ReserveInAction; readonly allocationLength: number }): ScsiResult {
    if (this.#legacyHolder !== undefined) return CONFLICT;
    const data = encodeReserveIn(command.action, this.#registry, this.#unit.document.canKeep);
    return parameterData(data, command.allocationLength);
  }

  /**
   * PERSISTENT RESERVE OUT (SPC-4 6.16). One at a time: what a command decides on does not change while it is being made
   * durable. PREEMPT AND ABORT is answered when no aborted command can change the medium any more.
   */
  out(nexus: UnitNexus, command: ReserveOutCommand, list: Buffer, life: CommandLife): MaybePromise<ScsiResult> {
    const outcome = this.#takeTurn(() =>
      this.#isOver(nexus, life) ? atOnce(ABORTED) : this.#out(nexus, command, list),
    );
    return outcome instanceof Promise ? outcome.then(settle) : settle(outcome);
  }

  #out(nexus: UnitNexus, command: ReserveOutCommand, list: Buffer): MaybePromise<Settling> {
    if (this.#legacyHolder !== undefined) return atOnce(CONFLICT);
    const { document } = this.#unit;
    const decoded = decodeReserveOut(command, list, (port) => this.#resolve(port, nexus), document.canKeep);
    if (decoded.kind === 'bad') return atOnce(checkCondition(decoded.sense));
    const { readOnly, initiator } = nexus;
    const request = readOnly ? asReader(decoded.request, this.#registry, initiator) : decoded.request;
    const made = transition(this.#registry, itNexus(nexus), request);
    switch (made.kind) {
      case 'conflict':
        return atOnce(CONFLICT);
      case 'refused':
        return atOnce(checkCondition(made.sense));
      case 'done':
        if (readOnly && disturbsOthers(this.#registry, made.registry, initiator))
          return atOnce(checkCondition(SENSE.writeProtected));
        return this.#keepAndCommit(nexus, command, made);
    }
  }

  #keepAndCommit(
    nexus: UnitNexus,
    command: ReserveOutCommand,
    made: Transition & { kind: 'done' },
  ): MaybePromise<Settling> {
    const { document } = this.#unit;
    const before = this.#registry;
    const changes = made.registry !== before && (made.registry.persists || before.persists);
    if (made.registry.registrations !== before.registrations && isTooLarge(made.registry))
      return atOnce(checkCondition(SENSE.insufficientRegistrationResources));
    const commit = (): Settling => this.#commit(nexus, command, made);
    if (!changes && !document.isUncertain) return commit();
    return document.save('reservations', encodeRegistry(made.registry)).then(commit, (error: unknown) => ({
      result: resultOfError(error),
      first: undefined,
    }));
  }

  /** In one go: the new state, who is told of it, and the end of the commands that are preempted. */
  #commit(nexus: UnitNexus, command: ReserveOutCommand, made: Transition & { kind: 'done' }): Settling {
    if (made.registry !== this.#registry) {
      this.#registry = made.registry;
      this.#standings = new WeakMap();
    }
    this.#tell(made.notices, itNexus(nexus));
    const first = made.aborts.length > 0 ? this.#abort(made.aborts, command) : undefined;
    return { result: GOOD, first };
  }

  /** Unit attentions for every nexus the notices are for, but never for the I_T nexus that did it, if one did. */
  #tell(notices: readonly Notice[], own?: ItNexus): void {
    if (notices.length === 0) return;
    for (const nexus of this.#unit.nexuses()) {
      const other = itNexus(nexus);
      if (own !== undefined && isSameNexus(own, other)) continue;
      for (const { to, sense } of notices) if (covers(to, other)) nexus.raise(sense);
    }
  }

  /**
   * By name, not by the nexuses there are: a write of a session that is gone may still be in the device. Copies of the
   * victims end wherever they were sent to: they may be writing here.
   */
  #abort(victims: readonly Registration[], except: ReserveOutCommand): MaybePromise<void> {
    const concerns = (nexus: UnitNexus, command: UnitCommand): boolean =>
      (nexus.unit === this.#unit || command.kind === 'extended-copy') &&
      victims.some((registration) => covers(registration, itNexus(nexus)));
    // Nor may they forbid the removal of the medium any more (5.13.11.2.6 h).
    for (const nexus of this.#unit.nexuses())
      if (victims.some((registration) => covers(registration, itNexus(nexus))))
        this.#unit.media.preventing.delete(nexus);
    return this.#unit.abortTasks(concerns, except);
  }

  /**
   * A TransportID without an ISID means every port of the initiator that is known here (SPC-4 7.6.4.6) and not
   * registered yet, but for the one that asks.
   */
  #resolve({ name, isid }: NamedPort, actor: UnitNexus): readonly InitiatorPort[] {
    if (isid !== undefined) return [{ name, isid }];
    const ports = new Map<string, InitiatorPort>();
    for (const nexus of this.#unit.nexuses()) {
      if (nexus.initiator.name !== name || isSamePort(nexus.initiator, actor.initiator)) continue;
      const target = actor.port.targetName;
      if (registrationOf(this.#registry, { initiator: nexus.initiator, target }) === undefined)
        ports.set(nexus.initiator.isid, nexus.initiator);
    }
    return [...ports.values()];
  }

  /** RESERVE (6) and (10): SPC-2 7.21, 7.22, with the exceptions of SPC-4 5.13.3. */
  reserve(nexus: UnitNexus, life: CommandLife): MaybePromise<ScsiResult> {
    return this.#takeTurn(() => {
      if (this.#isOver(nexus, life)) return ABORTED;
      if (nexus.readOnly) return checkCondition(SENSE.writeProtected);
      const own = itNexus(nexus);
      if (this.#registry.registrations.length > 0) return this.#compatible(own);
      if (this.#legacyHolder !== undefined && !isSameNexus(this.#legacyHolder, own)) return CONFLICT;
      this.#legacyHolder = own;
      return GOOD;
    });
  }

  /** RELEASE (6) and (10): SPC-2 7.16, 7.17, with the exceptions of SPC-4 5.13.3. Of another's reservation it is no error. */
  release(nexus: UnitNexus, life: CommandLife): MaybePromise<ScsiResult> {
    return this.#takeTurn(() => {
      if (this.#isOver(nexus, life)) return ABORTED;
      const own = itNexus(nexus);
      if (this.#registry.registrations.length > 0) return this.#compatible(own);
      this.#releaseLegacy(own);
      return GOOD;
    });
  }

  /**
   * RESERVE and RELEASE while there are registrations: GOOD without effect for whom the persistent reservation lets do
   * anything anyhow (SPC-4 5.13.3), otherwise a conflict (SPC-2 5.5.1).
   */
  #compatible(own: ItNexus): ScsiResult {
    const { reservation } = this.#registry;
    return reservation !== undefined && standingOf(this.#registry, own) === 'free' ? GOOD : CONFLICT;
  }

  #releaseLegacy(own: ItNexus): void {
    if (this.#legacyHolder !== undefined && isSameNexus(this.#legacyHolder, own)) this.#legacyHolder = undefined;
  }

  /** What there is, for an administrator. */
  report(): ReservationReport {
    return reportOf(this.#registry, this.#legacyHolder, !this.#unit.document.isDamaged);
  }

  /**
   * Ends every reservation and registration, for an administrator whose hosts cannot do it any more; what was kept and
   * cannot be understood is gone too. As CLEAR (SPC-4 5.13.11.2.7) tells those concerned, in its turn among the commands;
   * when nobody knows who that is, everybody. Rejects with the store's FarshoreError, and nothing has changed then.
   */
  async clear(): Promise<void> {
    await this.#takeTurn(async () => {
      const { document } = this.#unit;
      const before = this.#registry;
      const isDamaged = document.isDamaged;
      if (isDamaged) await document.discardDamaged();
      if (before.persists || document.isUncertain) await document.save('reservations', undefined);
      const holder = this.#legacyHolder;
      this.#registry = { ...EMPTY_REGISTRY, generation: (before.generation + 1) % 2 ** 32 };
      this.#legacyHolder = undefined;
      this.#standings = new WeakMap();
      for (const nexus of this.#unit.nexuses()) {
        const own = itNexus(nexus);
        const isConcerned =
          isDamaged || registrationOf(before, own) !== undefined || (holder !== undefined && isSameNexus(holder, own));
        if (isConcerned) nexus.raise(SENSE.reservationsPreempted);
      }
    });
  }

  /**
   * Takes from initiators what they hold of a unit that they reach no more, in its turn among the commands. Rejects with the store's
   * FarshoreError, and nothing has changed then.
   */
  async retain(reaches: Reaches): Promise<void> {
    await this.#takeTurn(() => {
      const made = withdraw(this.#registry, reaches);
      if (made === undefined) return undefined;
      const { document } = this.#unit;
      const commit = (): void => {
        this.#registry = made.registry;
        this.#standings = new WeakMap();
        this.#tell(made.notices);
      };
      if (!made.registry.persists && !document.isUncertain) {
        commit();
        return undefined;
      }
      return document.save('reservations', encodeRegistry(made.registry)).then(commit);
    });
  }

  /** An I_T nexus is lost: RESERVE ends with it, registrations do not (SPC-4 5.13.1). */
  nexusLost(nexus: UnitNexus): void {
    this.#releaseLegacy(itNexus(nexus));
  }

  /** Logical unit reset: likewise. */
  reset(): void {
    this.#legacyHolder = undefined;
  }

  /**
   * Whether a command that has waited for its turn must have no effect any more: it was aborted, or its nexus is lost. What it would reserve
   * nobody would know of, and nobody release.
   */
  #isOver(nexus: UnitNexus, life: CommandLife): boolean {
    return life.state === 'aborted' || !this.#unit.has(nexus);
  }

  /** Runs `act` when every one before it has ended; in the same turn if there is none. */
  #takeTurn<T>(act: () => MaybePromise<T>): MaybePromise<T> {
    let turn: MaybePromise<T>;
    if (this.#inTurn === 0) {
      turn = act();
      if (!(turn instanceof Promise)) return turn;
    } else {
      turn = this.#lastTurn.then(act);
    }
    this.#inTurn += 1;
    const over = (): void => {
      this.#inTurn -= 1;
    };
    this.#lastTurn = turn.then(over, over);
    return turn;
  }
}

function standingOf(registry: Registry, nexus: ItNexus): Standing {
  const { reservation } = registry;
  if (reservation === undefined || isHolder(registry, nexus)) return 'free';
  if (sparesRegistrants(reservation.type) && registrationOf(registry, nexus) !== undefined) return 'free';
  return isExclusiveAccess(reservation.type) ? 'barred' : 'may-read';
}

function itNexus(nexus: UnitNexus): ItNexus {
  return { initiator: nexus.initiator, target: nexus.port.targetName };
}

function atOnce(result: ScsiResult): Settling {
  return { result, first: undefined };
}

function settle({ result, first }: Settling): MaybePromise<ScsiResult> {
  return first instanceof Promise ? first.then(() => result) : result;
}

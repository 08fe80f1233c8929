import type { LogicalUnit } from '../scsi/logical-unit.ts';
import type { Task } from './task.ts';

/** Task attributes of a SCSI Command (RFC 7143 11.3.1). What is not named here, untagged too, is treated as SIMPLE. */
export const ATTRIBUTE = { simple: 1, ordered: 2, headOfQueue: 3, aca: 4 } as const;

/** A session's commands, as far as their order is concerned. */
export interface OrderedSet {
  /** Its tasks in the unit, in the order of their arrival: those in the task set, and aborted ones still in the device. */
  tasksIn(unit: LogicalUnit): Iterable<Task>;
  /** The task was held back, and may run now. */
  resume(task: Task): void;
}

/**
 * The order of the commands of one unit while any of them is ORDERED or HEAD OF QUEUE (SAM-5, task set management). The
 * task set is that of the unit, over all sessions (TST of the control mode page is 0).
 */
export class UnitOrder {
  readonly #onIdle: () => void;
  /** In the order of their arrival. */
  readonly #members = new Map<Task, OrderedSet>();
  #headsOfQueue = 0;
  #ordered = 0;
  #advancing = false;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  add(task: Task, set: OrderedSet): void {
    task.order = this;
    this.#members.set(task, set);
    if (task.attribute === ATTRIBUTE.headOfQueue) this.#headsOfQueue += 1;
    else if (task.attribute === ATTRIBUTE.ordered) this.#ordered += 1;
  }

  /**
   * Whether the task may run now. A HEAD OF QUEUE command waits for nobody, the others for every HEAD OF QUEUE command
   * and for older ORDERED ones, and an ORDERED command for all that are older than itself.
   */
  mayRun(task: Task): boolean {
    if (task.attribute === ATTRIBUTE.headOfQueue) return true;
    if (this.#headsOfQueue > 0) return false;
    if (task.attribute === ATTRIBUTE.ordered) return this.#isOldest(task);
    if (this.#ordered === 0) return true;
    for (const other of this.#members.keys()) {
      if (other === task) return true;
      if (other.attribute === ATTRIBUTE.ordered) return false;
    }
    return true;
  }

  /** The task is over, and none of its effects can come any more. */
  leave(task: Task): void {
    task.order = undefined;
    this.#members.delete(task);
    if (task.attribute === ATTRIBUTE.headOfQueue) this.#headsOfQueue -= 1;
    else if (task.attribute === ATTRIBUTE.ordered) this.#ordered -= 1;
    this.#advance();
  }

  /** Lets those run whose turn has come. One that ends at once comes back through `leave`, in the middle of the loop. */
  #advance(): void {
    if (this.#advancing) return;
    this.#advancing = true;
    for (const [task, set] of this.#members) {
      if (this.#headsOfQueue > 0) break;
      const isOrdered = task.attribute === ATTRIBUTE.ordered;
      if (task.state === 'held' && (!isOrdered || this.#isOldest(task))) set.resume(task);
      if (isOrdered && this.#members.has(task)) break;
    }
    this.#advancing = false;
    if (this.#headsOfQueue === 0 && this.#ordered === 0) this.#dissolve();
  }

  /** Nothing is held back any more: the members need no order, and pay nothing for it. */
  #dissolve(): void {
    for (const task of this.#members.keys()) task.order = undefined;
    this.#members.clear();
    this.#onIdle();
  }

  #isOldest(task: Task): boolean {
    for (const oldest of this.#members.keys()) return oldest === task;
    return false;
  }
}

/** The order of commands in every unit of a server. Costs nothing as long as all of them are SIMPLE. */
export class TaskOrder {
  readonly #sets = new Set<OrderedSet>();
  readonly #byUnit = new Map<LogicalUnit, UnitOrder>();

  join(set: OrderedSet): void {
    this.#sets.add(set);
  }

  /** The set has no task any more that could still have an effect. */
  leave(set: OrderedSet): void {
    this.#sets.delete(set);
  }

  /** Whether a new command has to `enter`. */
  concerns(attribute: number): boolean {
    return this.#byUnit.size > 0 || attribute === ATTRIBUTE.ordered || attribute === ATTRIBUTE.headOfQueue;
  }

  /** A command has arrived. The first that is not SIMPLE finds those that are there already. */
  enter(task: Task, set: OrderedSet): void {
    const { unit } = task.nexus;
    let order = this.#byUnit.get(unit);
    if (order === undefined) {
      if (task.attribute !== ATTRIBUTE.ordered && task.attribute !== ATTRIBUTE.headOfQueue) return;
      order = new UnitOrder(() => this.#byUnit.delete(unit));
      this.#byUnit.set(unit, order);
      for (const other of this.#sets) for (const older of other.tasksIn(unit)) order.add(older, other);
    }
    order.add(task, set);
  }
}

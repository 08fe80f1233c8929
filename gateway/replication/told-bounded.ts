import type { RpcPort } from './rpc.ts';
import { sendEvent } from './rpc.ts';

/** Events of one kind on their way to a thread that has not taken them up yet; more are counted instead of sent. */
export const MAX_UNHEARD = 4_096;

/** What is counted separately, so that a flood of one displaces nothing of the other. */
export type Channel = 'log' | 'audit';
const SLOTS: Readonly<Record<Channel, number>> = { log: 0, audit: 1 };

/** Shared by both ends: how many events of each kind are under way. */
export type Unheard = SharedArrayBuffer;

export function newUnheard(): Unheard {
  return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * Object.keys(SLOTS).length);
}

/** The receiving end has taken one up. */
export function heard(unheard: Unheard, channel: Channel): void {
  Atomics.sub(new Int32Array(unheard), SLOTS[channel], 1);
}

/** Events that were counted instead of sent, by what the sender calls them. */
export type Missed = Readonly<Record<string, number>>;

/**
 * The end of a port that tells without being asked, and without waiting: a thread that is slow to take it up must not fill the memory of the process. What
 * found no room is counted, and the counts go ahead of the next that does.
 */
export class BoundedTeller {
  readonly #port: RpcPort;
  readonly #counts: Int32Array;
  readonly #missed: Readonly<Record<Channel, Map<string, number>>> = { log: new Map(), audit: new Map() };

  constructor(port: RpcPort, unheard: Unheard) {
    this.#port = port;
    this.#counts = new Int32Array(unheard);
  }

  /** `countedAs`: what is counted when there is no room (few different ones). */
  tell(channel: Channel, name: string, detail: unknown, countedAs: string): void {
    const slot = SLOTS[channel];
    const missed = this.#missed[channel];
    if (Atomics.load(this.#counts, slot) >= MAX_UNHEARD) {
      missed.set(countedAs, (missed.get(countedAs) ?? 0) + 1);
      return;
    }
    if (missed.size > 0) {
      const counts: Missed = Object.fromEntries(missed);
      missed.clear();
      this.#send(slot, `missed-${channel}`, counts);
    }
    this.#send(slot, name, detail);
  }

  #send(slot: number, name: string, detail: unknown): void {
    Atomics.add(this.#counts, slot, 1);
    sendEvent(this.#port, name, 0, detail);
  }
}

import type { ErrorKind } from '../base/errors.ts';
import { describeError, FarshoreError } from '../base/errors.ts';

/** The part of a MessagePort (or Worker) that is used here. */
export interface RpcPort {
  postMessage(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  on(event: 'message', listener: (message: unknown) => void): unknown;
}

/** Calls one side may have under way; more is a caller without back-pressure. */
export const MAX_CALLS_UNDER_WAY = 65_536;

interface CallMessage {
  readonly type: 'call';
  readonly id: number;
  readonly target: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

interface AnswerMessage {
  readonly type: 'answer';
  readonly id: number;
  readonly value: unknown;
}

interface FailureMessage {
  readonly type: 'failure';
  readonly id: number;
  readonly kind: ErrorKind;
  readonly message: string;
  readonly stack: string | undefined;
}

interface EventMessage {
  readonly type: 'event';
  readonly name: string;
  readonly target: number;
  readonly detail: unknown;
}

type RpcMessage = CallMessage | AnswerMessage | FailureMessage | EventMessage;

/** A value and the buffers in it that may move instead of being copied; they are gone afterwards. */
export interface Answer {
  readonly value: unknown;
  readonly transfer?: readonly ArrayBuffer[];
}

/** Does what is asked of `target`; a rejection travels back with its kind. */
export type Dispatch = (target: number, method: string, args: readonly unknown[]) => Promise<Answer>;

/** Answers the calls that arrive at the port. The answer to each is sent when it is there, in any order. */
export function serveCalls(port: RpcPort, dispatch: Dispatch): void {
  port.on('message', (message) => {
    const call = message as RpcMessage; // both ends are this module
    if (call.type !== 'call') return;
    void answerCall(port, dispatch, call);
  });
}

async function answerCall(port: RpcPort, dispatch: Dispatch, call: CallMessage): Promise<void> {
  let answer: Answer;
  try {
    answer = await dispatch(call.target, call.method, call.args);
  } catch (error) {
    port.postMessage(failureOf(call.id, error));
    return;
  }
  const message: AnswerMessage = { type: 'answer', id: call.id, value: answer.value };
  port.postMessage(message, answer.transfer ?? []);
}

/** Anything but a FarshoreError is a fault of the program. */
function failureOf(id: number, error: unknown): FailureMessage {
  const kind = error instanceof FarshoreError ? error.kind : 'bug';
  const stack = error instanceof Error ? error.stack : undefined;
  return { type: 'failure', id, kind, message: describeError(error), stack };
}

/** Tells the other end something it did not ask for. */
export function sendEvent(port: RpcPort, name: string, target: number, detail: unknown): void {
  const message: EventMessage = { type: 'event', name, target, detail };
  port.postMessage(message);
}

interface PendingCall {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** The calling end of a port. */
export class RpcClient {
  readonly #port: RpcPort;
  readonly #pending = new Map<number, PendingCall>();
  #nextId = 1;
  #ended: FarshoreError | undefined;

  constructor(port: RpcPort, onEvent: (name: string, target: number, detail: unknown) => void) {
    this.#port = port;
    port.on('message', (received) => {
      const message = received as RpcMessage; // both ends are this module
      if (message.type === 'event') onEvent(message.name, message.target, message.detail);
      else if (message.type === 'answer') this.#settle(message.id)?.resolve(message.value);
      else if (message.type === 'failure') this.#settle(message.id)?.reject(errorOf(message));
    });
  }

  /**
   * The answer as it came through structured cloning (Buffers arrive as Uint8Arrays). Rejects with the other end's error. The buffers in `transfer`
   * move there, and are gone here.
   */
  call(
    target: number,
    method: string,
    args: readonly unknown[],
    transfer: readonly ArrayBuffer[] = [],
  ): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    if (this.#pending.size >= MAX_CALLS_UNDER_WAY) {
      return Promise.reject(new FarshoreError('busy', `${this.#pending.size} calls to another thread are under way`));
    }
    const id = this.#nextId;
    this.#nextId += 1;
    const message: CallMessage = { type: 'call', id, target, method, args };
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#port.postMessage(message, transfer);
    });
  }

  /** The other end is gone: every call under way, and every later one, rejects with `error`. */
  end(error: FarshoreError): void {
    this.#ended ??= error;
    for (const call of this.#pending.values()) call.reject(error);
    this.#pending.clear();
  }

  #settle(id: number): PendingCall | undefined {
    const call = this.#pending.get(id);
    this.#pending.delete(id);
    return call;
  }
}

function errorOf({ kind, message, stack }: FailureMessage): FarshoreError {
  const error = new FarshoreError(kind, message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** Structured cloning turns Buffers into Uint8Arrays; this makes Buffers (views, not copies) of all of them, at any depth. */
export function withBuffers(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Array.isArray(value)) return value.map(withBuffers);
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withBuffers(inner)]));
  }
  return value;
}

import { connect as connectSocket, type Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { describeError, FarshoreError } from '../base/errors.ts';
import { RESPONSE_BIT } from './constants.ts';
import type { Request, Response } from './messages.ts';
import { decodeResponse } from './messages.ts';
import { damaged, encodeMessage, type Message, MessageReader } from './pdu.ts';

/** Opens a connection to the server; rejects with a FarshoreError, at once when the signal aborts. */
export type ConnectIsns = (signal: AbortSignal) => Promise<Socket>;

const CONNECT_LIMIT_MS = 5_000;
/** From a request to the end of its answer, however the server trickles it. */
export const ANSWER_LIMIT_MS = 10_000;
/** Messages nobody asked for (the server's own requests, late answers) that are passed over between two of our requests. */
const MAX_UNASKED = 64;

/** `connect` over TCP. */
export function connectOverTcp(server: { readonly host: string; readonly port: number }, clock: Clock): ConnectIsns {
  return (signal) =>
    new Promise((resolve, reject) => {
      const socket = connectSocket({ host: server.host, port: server.port, noDelay: true });
      const finish = (error?: FarshoreError): void => {
        cancel();
        signal.removeEventListener('abort', onAbort);
        socket.removeListener('error', onError);
        socket.removeListener('connect', onConnect);
        if (error === undefined) {
          resolve(socket);
          return;
        }
        socket.on('error', () => undefined);
        socket.destroy();
        reject(error);
      };
      const onConnect = (): void => {
        finish();
      };
      const onError = (error: Error): void => {
        finish(new FarshoreError('retry', `cannot be reached (${describeError(error)})`, { cause: error }));
      };
      const onAbort = (): void => {
        finish(new FarshoreError('stopped', 'was not waited for any longer'));
      };
      const cancel = clock.startTimer(CONNECT_LIMIT_MS, () => {
        finish(new FarshoreError('retry', `does not take the connection within ${CONNECT_LIMIT_MS / 1000} s`));
      });
      socket.once('connect', onConnect);
      socket.once('error', onError);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
}

interface Waiting {
  readonly transactionId: number;
  readonly functionId: number;
  answer(response: Response): void;
  fail(error: FarshoreError): void;
}

/** One connection to the server: one request at a time. What goes wrong on it ends it, and is the error of the request under way. */
export class IsnsConnection {
  /** Resolves, with the reason, when the connection can't be used any more. */
  readonly ended: Promise<FarshoreError>;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #reader = new MessageReader();
  #waiting: Waiting | undefined;
  #failure: FarshoreError | undefined;
  #resolveEnded: (error: FarshoreError) => void = () => undefined;
  #transactionId = 0;
  #unasked = 0;

  constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    socket.on('data', (chunk: Buffer) => {
      this.#receive(chunk);
    });
    socket.on('error', (error) => {
      this.destroy(new FarshoreError('retry', `the connection broke (${describeError(error)})`, { cause: error }));
    });
    // 'end' need not be followed by 'close' while something of ours waits to be sent.
    for (const event of ['end', 'close'])
      socket.on(event, () => {
        this.destroy(new FarshoreError('retry', 'the iSNS server closed the connection'));
      });
    if (socket.destroyed) this.destroy(new FarshoreError('retry', 'the iSNS server closed the connection'));
  }

  /** Our end's address: where the server, and so its clients perhaps, can reach us. */
  localAddress(): string | undefined {
    return this.#socket.localAddress;
  }

  failure(): FarshoreError | undefined {
    return this.#failure;
  }

  /** Sends the request; resolves with the response whatever its status. Rejects with `retry` or `damaged`, and the connection is ended. */
  request(request: Request): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      if (this.#waiting !== undefined) throw new FarshoreError('bug', 'two iSNS requests at once');
      this.#transactionId = (this.#transactionId + 1) & 0xffff;
      this.#unasked = 0;
      const cancel = this.#clock.startTimer(ANSWER_LIMIT_MS, () => {
        this.destroy(new FarshoreError('retry', `the iSNS server did not answer within ${ANSWER_LIMIT_MS / 1000} s`));
      });
      const settle = (): void => {
        cancel();
        this.#waiting = undefined;
      };
      this.#waiting = {
        transactionId: this.#transactionId,
        functionId: request.functionId | RESPONSE_BIT,
        answer: (response) => {
          settle();
          resolve(response);
        },
        fail: (error) => {
          settle();
          reject(error);
        },
      };
      this.#socket.write(encodeMessage({ ...request, transactionId: this.#transactionId }));
    });
  }

  /** Ends the connection; the first reason counts. */
  destroy(reason: FarshoreError): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#socket.destroy();
    this.#waiting?.fail(reason);
    this.#resolveEnded(reason);
  }

  #receive(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    try {
      for (const message of this.#reader.push(chunk)) this.#take(message);
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
      this.destroy(error);
    }
  }

  #take(message: Message): void {
    const waiting = this.#waiting;
    if (message.transactionId === waiting?.transactionId && message.functionId === waiting.functionId) {
      waiting.answer(decodeResponse(message.payload));
      return;
    }
    this.#unasked += 1;
    if (this.#unasked > MAX_UNASKED) throw damaged(`sent ${MAX_UNASKED} messages nobody asked for`);
  }
}

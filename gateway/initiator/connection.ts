import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import { FarshoreError, describeError, isKind } from '../base/errors.ts';
import { InboundFramer } from './framer.ts';
import type { PduHandler } from './framer.ts';
import { LoginExchange } from './login.ts';
import type { LoginRequest, LoginResult, LoginStep } from './login.ts';
import { Outbox } from './outbox.ts';
import { TARGET_OPCODE, opcodeOf } from './wire.ts';

/** One read from the socket takes at most this much; large enough for a whole turn of a deep queue. */
const RECEIVE_BYTES = 512 * 1024;

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Takes over the PDUs of a connection once it is in full-feature phase. */
export interface Receiver extends PduHandler {
  /** The connection is gone; called once. */
  closed(error: FarshoreError): void;
}

export interface ConnectionRequest extends Endpoint {
  readonly login: LoginRequest;
  /** Longest time for TCP connect and login together. */
  readonly loginTimeoutMs: number;
  readonly clock: Clock;
  /** Called in the same turn as the last login response, so that no later PDU is missed. */
  readonly attach: (connection: Connection, result: LoginResult) => Receiver;
}

/** The target asked us to log in elsewhere (RFC 7143 11.13.5, class 1). */
export class TargetMoved extends FarshoreError {
  readonly endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    super('retry', `the target has moved to ${endpoint.host}:${endpoint.port}`);
    this.endpoint = endpoint;
  }
}

/** A TCP connection to a target, from login to close. */
export class Connection implements PduHandler {
  readonly outbox: Outbox;

  private readonly request: ConnectionRequest;
  private readonly socket: Socket;
  private readonly framer: InboundFramer;
  private readonly exchange: LoginExchange;
  private receiver: Receiver | undefined;
  private failure: FarshoreError | undefined;
  private settleLogin: { readonly resolve: () => void; readonly reject: (error: FarshoreError) => void } | undefined;
  private cancelTimeout: CancelTimer = () => undefined;

  private constructor(request: ConnectionRequest) {
    this.request = request;
    this.exchange = new LoginExchange(request.login);
    this.framer = new InboundFramer(this, request.login.offer.maxRecvDataSegmentBytes);
    const received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
    this.socket = connect({
      host: request.host,
      port: request.port,
      noDelay: true,
      onread: {
        buffer: received,
        callback: (bytes) => {
          this.receive(received, bytes);
          return true;
        },
      },
    });
    this.outbox = new Outbox(this.socket);
    this.socket.on('error', (error) => {
      this.fail(connectionError(request, describeError(error), error));
    });
    this.socket.on('end', () => {
      this.fail(connectionError(request, 'the target closed it'));
    });
    this.socket.on('close', () => {
      this.fail(connectionError(request, 'it was closed'));
    });
  }

  /** Connects and logs in. Rejects with LoginError, TargetMoved, `retry` (no connection, timeout) or `damaged`. */
  static async open(request: ConnectionRequest): Promise<void> {
    const connection = new Connection(request);
    await new Promise<void>((resolve, reject) => {
      connection.settleLogin = { resolve, reject };
      connection.cancelTimeout = request.clock.startTimer(request.loginTimeoutMs, () => {
        connection.fail(connectionError(request, `no login within ${request.loginTimeoutMs} ms`));
      });
      connection.socket.once('connect', () => {
        connection.take(connection.exchange.start());
      });
    });
  }

  /** Ends the connection without a logout; the receiver hears of it. */
  destroy(error: FarshoreError): void {
    this.fail(error);
  }

  destination(header: Buffer, at: number, length: number): Buffer | 'drop' | undefined {
    return this.receiver?.destination(header, at, length);
  }

  pdu(header: Buffer, at: number, data: Buffer, dataAt: number, dataLength: number, placed: boolean): void {
    if (this.receiver !== undefined) {
      this.receiver.pdu(header, at, data, dataAt, dataLength, placed);
      return;
    }
    if (opcodeOf(header, at) !== TARGET_OPCODE.loginResponse) {
      throw new FarshoreError('damaged', 'the target answered the login with something else');
    }
    this.take(this.exchange.response(header.subarray(at), data.subarray(dataAt, dataAt + dataLength)));
  }

  private take(step: LoginStep): void {
    switch (step.kind) {
      case 'send': {
        const at = this.outbox.begin();
        step.header.copy(this.outbox.buffer(), at);
        this.outbox.finish(at, step.data, 0, step.data.length);
        return;
      }
      case 'moved':
        throw new TargetMoved(parseAddress(step.address));
      case 'done': {
        const { negotiated } = step.result;
        this.framer.headerDigest = this.outbox.headerDigest = negotiated.headerDigest;
        this.framer.dataDigest = this.outbox.dataDigest = negotiated.dataDigest;
        this.receiver = this.request.attach(this, step.result);
        this.cancelTimeout();
        this.settleLogin?.resolve();
        return;
      }
    }
  }

  private receive(buffer: Buffer, bytes: number): void {
    if (this.failure !== undefined) return;
    this.outbox.hold();
    try {
      this.framer.push(buffer, 0, bytes);
    } catch (error) {
      if (error instanceof FarshoreError && !isKind(error, 'bug')) {
        this.fail(error);
        return;
      }
      throw error;
    }
    this.outbox.release();
  }

  private fail(error: FarshoreError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.cancelTimeout();
    this.socket.destroy();
    if (this.receiver !== undefined) this.receiver.closed(error);
    else this.settleLogin?.reject(error);
  }
}

function connectionError(endpoint: Endpoint, reason: string, cause?: unknown): FarshoreError {
  return new FarshoreError('retry', `connection to ${endpoint.host}:${endpoint.port}: ${reason}`, { cause });
}

/** `host[:port][,tag]` with an IPv6 address in brackets, as in TargetAddress (RFC 7143 13.8). */
export function parseAddress(address: string): Endpoint {
  const match = /^(?:\[([^\]]+)\]|([^:,]+))(?::([0-9]{1,5}))?(?:,[0-9]+)?$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined) throw new FarshoreError('damaged', `the target gave "${address}" as an address`);
  return { host, port: Number(match?.[3] ?? 3260) };
}

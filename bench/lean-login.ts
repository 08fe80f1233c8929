import type { Socket } from 'node:net';
import { randomBytes } from 'node:crypto';
import { systemRandom } from '../gateway/base/clock.ts';
import { DEFAULT_INITIATOR_NAME } from '../gateway/initiator/connect.ts';
import { LoginExchange } from '../gateway/initiator/login.ts';
import type { LoginResult } from '../gateway/initiator/login.ts';
import { DEFAULT_OFFER } from '../gateway/initiator/negotiation.ts';
import {
  BHS_BYTES,
  TARGET_OPCODE,
  dataSegmentLength,
  opcodeOf,
  paddingOf,
  writeDataSegmentLength,
} from '../gateway/initiator/wire.ts';

/** Answers of a login are a few hundred bytes. */
const MAX_LOGIN_BYTES = 64 * 1024;

export type LoginOutcome =
  | {
      readonly kind: 'done';
      readonly result: LoginResult;
      /** What came behind the last response. */ readonly rest: Buffer;
    }
  | { readonly kind: 'moved'; readonly address: string };

/** The login of the load's connection: the initiator's exchange, on a socket that is handed to the load afterwards. */
export class LeanLogin {
  private readonly socket: Socket;
  private readonly exchange: LoginExchange;
  private received: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, target: string) {
    this.socket = socket;
    const isid = randomBytes(6);
    isid[0] = 0x80;
    this.exchange = new LoginExchange({
      initiatorName: DEFAULT_INITIATOR_NAME,
      targetName: target,
      isid,
      offer: DEFAULT_OFFER,
      chap: undefined,
      random: systemRandom,
    });
  }

  start(): void {
    this.send(this.exchange.start());
  }

  /** Takes what came; the outcome once there is one. Throws LoginError or `damaged`. */
  take(bytes: Buffer): LoginOutcome | undefined {
    this.received = Buffer.concat([this.received, bytes]);
    if (this.received.length > MAX_LOGIN_BYTES) throw new Error('the target answers the login without end');
    while (this.received.length >= BHS_BYTES) {
      const length = dataSegmentLength(this.received, 0);
      const end = BHS_BYTES + length + paddingOf(length);
      if (this.received.length < end) return undefined;
      if (opcodeOf(this.received, 0) !== TARGET_OPCODE.loginResponse)
        throw new Error('the target answered the login with something else');
      const step = this.exchange.response(
        this.received.subarray(0, BHS_BYTES),
        this.received.subarray(BHS_BYTES, BHS_BYTES + length),
      );
      this.received = this.received.subarray(end);
      if (step.kind === 'done') return { kind: 'done', result: step.result, rest: this.received };
      if (step.kind === 'moved') return step;
      this.send(step);
    }
    return undefined;
  }

  private send(step: ReturnType<LoginExchange['start']>): void {
    if (step.kind !== 'send') return;
    writeDataSegmentLength(step.header, 0, step.data.length);
    this.socket.write(Buffer.concat([step.header, step.data, Buffer.alloc(paddingOf(step.data.length))]));
  }
}

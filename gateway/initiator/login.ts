import type { Random } from '../base/clock.ts';
import { FarshoreError, assertNever } from '../base/errors.ts';
import type { ErrorKind } from '../base/errors.ts';
import { CHAP_KEYS, ChapExchange } from './chap.ts';
import type { ChapOptions } from './chap.ts';
import { decodeKeyList, encodeKeys, operationalKeys, settle } from './negotiation.ts';
import type { Negotiated, NegotiationOffer } from './negotiation.ts';
import { CONTINUE_BIT, FINAL_BIT, IMMEDIATE_BIT, INITIATOR_OPCODE, flagsOf } from './wire.ts';

/** A target that keeps asking for more rounds is not going to let us in. */
const MAX_LOGIN_EXCHANGES = 16;

/** RFC 7143 11.12.3. */
const STAGE = { security: 0, operational: 1, fullFeature: 3 } as const;
type Stage = (typeof STAGE)['security' | 'operational'];

export interface LoginRequest {
  readonly initiatorName: string;
  /** Undefined: a discovery session. */
  readonly targetName: string | undefined;
  readonly isid: Buffer;
  readonly offer: NegotiationOffer;
  /** Who we are, and whether the target has to prove itself too; undefined: no authentication. */
  readonly chap: ChapOptions | undefined;
  readonly random: Random;
}

export interface LoginResult {
  readonly negotiated: Negotiated;
  readonly tsih: number;
  /** Everything the target said, for instance TargetPortalGroupTag and TargetAlias. */
  readonly answers: ReadonlyMap<string, string>;
  readonly cmdSn: number;
  readonly expStatSn: number;
  readonly maxCmdSn: number;
}

export type LoginStep =
  | { readonly kind: 'send'; readonly header: Buffer; readonly data: Buffer }
  | { readonly kind: 'done'; readonly result: LoginResult }
  | { readonly kind: 'moved'; readonly address: string };

/** Login was refused; `statusClass` and `statusDetail` as in RFC 7143 11.13.5. */
export class LoginError extends FarshoreError {
  readonly statusClass: number;
  readonly statusDetail: number;

  constructor(statusClass: number, statusDetail: number) {
    const code = `${statusClass.toString(16).padStart(2, '0')}${statusDetail.toString(16).padStart(2, '0')}h`;
    super(
      refusalKind(statusClass, statusDetail),
      `the target refused the login: ${refusalText(statusClass, statusDetail)} (${code})`,
    );
    this.name = 'LoginError';
    this.statusClass = statusClass;
    this.statusDetail = statusDetail;
  }
}

/** The initiator's half of the login phase (RFC 7143 section 6.3), without a socket: responses in, requests out. */
export class LoginExchange {
  private readonly request: LoginRequest;
  private stage: Stage = STAGE.security;
  private exchanges = 0;
  private collected: Buffer[] = [];
  private readonly answers = new Map<string, string>();
  private readonly offered = new Set<string>();
  private expStatSn = 0;
  private readonly chap: ChapExchange | undefined;
  private chapStage: 'none' | 'offered' | 'answered' | 'proved' = 'none';

  constructor(request: LoginRequest) {
    this.request = request;
    this.chap = request.chap === undefined ? undefined : new ChapExchange(request.chap, request.random);
  }

  start(): LoginStep {
    return this.enter(STAGE.security);
  }

  /** Takes a login response (a whole header at 0) and says what comes next. Throws LoginError or `damaged`. */
  response(header: Buffer, data: Buffer): LoginStep {
    const statusClass = header[36] ?? 0;
    const statusDetail = header[37] ?? 0;
    if (statusClass === 1) {
      const moved = new Map(decodeKeyList(data)).get('TargetAddress');
      if (moved === undefined) throw new FarshoreError('damaged', 'the target moved, but did not say where');
      return { kind: 'moved', address: moved };
    }
    if (statusClass !== 0) throw new LoginError(statusClass, statusDetail);
    this.exchanges += 1;
    if (this.exchanges > MAX_LOGIN_EXCHANGES) {
      throw new FarshoreError('damaged', `the login did not end after ${MAX_LOGIN_EXCHANGES} exchanges`);
    }
    this.expStatSn = (header.readUInt32BE(24) + 1) >>> 0;
    this.collected.push(Buffer.from(data));
    const flags = flagsOf(header, 0);
    if ((flags & CONTINUE_BIT) !== 0) return this.send([], false);
    const { unknown, keys } = this.takeAnswers();
    const chapKeys = this.stage === STAGE.security ? this.authenticate(keys, (flags & FINAL_BIT) !== 0) : undefined;
    if (chapKeys !== undefined) return this.send([...unknown, ...chapKeys], this.chapStage === 'answered');
    if ((flags & FINAL_BIT) === 0) return this.send(unknown, true);
    const next = flags & 3;
    switch (next) {
      case STAGE.operational:
        return this.enter(STAGE.operational);
      case STAGE.fullFeature:
        return { kind: 'done', result: this.finish(header) };
      default:
        throw new FarshoreError('damaged', `the target went to login stage ${next}, which was not asked for`);
    }
  }

  /** Keys that the target proposes and we don't know are answered, as RFC 7143 6.2 demands. */
  private takeAnswers(): { readonly unknown: [string, string][]; readonly keys: ReadonlyMap<string, string> } {
    const pairs = decodeKeyList(Buffer.concat(this.collected));
    this.collected = [];
    const unknown: [string, string][] = [];
    for (const [key, value] of pairs) {
      if (!this.offered.has(key) && !DECLARED_BY_TARGET.has(key)) unknown.push([key, 'NotUnderstood']);
      this.answers.set(key, value);
    }
    return { unknown, keys: new Map(pairs) };
  }

  /** The next keys of CHAP, if any; `transits`: the target lets us out of the security stage. */
  private authenticate(
    keys: ReadonlyMap<string, string>,
    transits: boolean,
  ): readonly (readonly [string, string])[] | undefined {
    const { chap } = this;
    if (chap === undefined) return undefined;
    switch (this.chapStage) {
      case 'none':
        if (keys.get('AuthMethod') === 'CHAP') {
          this.chapStage = 'offered';
          return chap.offer();
        }
        if (transits && this.request.chap?.target !== undefined) throw unprovenTarget();
        return undefined;
      case 'offered':
        this.chapStage = 'answered';
        return chap.answer(keys);
      case 'answered':
        chap.verify(keys);
        this.chapStage = 'proved';
        return undefined;
      case 'proved':
        return undefined;
    }
  }

  private enter(stage: Stage): LoginStep {
    this.stage = stage;
    switch (stage) {
      case STAGE.security:
        return this.send([...this.identityKeys(), ['AuthMethod', this.authMethod()]], true);
      case STAGE.operational:
        return this.send(operationalKeys(this.request.offer, this.request.targetName === undefined), true);
      default:
        return assertNever(stage);
    }
  }

  /** A target that has to prove itself cannot do without CHAP. */
  private authMethod(): string {
    const { chap } = this.request;
    if (chap === undefined) return 'None';
    return chap.target === undefined ? 'CHAP,None' : 'CHAP';
  }

  private identityKeys(): [string, string][] {
    const { initiatorName, targetName } = this.request;
    return targetName === undefined
      ? [
          ['InitiatorName', initiatorName],
          ['SessionType', 'Discovery'],
        ]
      : [
          ['InitiatorName', initiatorName],
          ['SessionType', 'Normal'],
          ['TargetName', targetName],
        ];
  }

  private send(keys: readonly (readonly [string, string])[], transit: boolean): LoginStep {
    for (const [key] of keys) this.offered.add(key);
    const header = Buffer.alloc(48);
    header[0] = IMMEDIATE_BIT | INITIATOR_OPCODE.login;
    const nextStage = this.stage === STAGE.security ? STAGE.operational : STAGE.fullFeature;
    header[1] = (this.stage << 2) | (transit ? FINAL_BIT | nextStage : 0);
    this.request.isid.copy(header, 8);
    header.writeUInt32BE(LOGIN_TASK_TAG, 16);
    header.writeUInt32BE(FIRST_CMD_SN, 24);
    header.writeUInt32BE(this.expStatSn, 28);
    return { kind: 'send', header, data: encodeKeys(keys) };
  }

  private finish(header: Buffer): LoginResult {
    const tsih = header.readUInt16BE(14);
    if (tsih === 0) throw new FarshoreError('damaged', 'the target ended the login without a session handle');
    return {
      negotiated: settle(this.request.offer, this.answers),
      tsih,
      answers: this.answers,
      cmdSn: FIRST_CMD_SN,
      expStatSn: this.expStatSn,
      maxCmdSn: header.readUInt32BE(32),
    };
  }
}

const LOGIN_TASK_TAG = 0;
const FIRST_CMD_SN = 1;
const DECLARED_BY_TARGET = new Set<string>(['TargetAlias', 'TargetAddress', 'TargetPortalGroupTag', ...CHAP_KEYS]);

function unprovenTarget(): FarshoreError {
  return new FarshoreError('input', 'the target does not authenticate itself; it has to, as mutual CHAP was asked for');
}

function refusalKind(statusClass: number, detail: number): ErrorKind {
  if (statusClass === 2) return detail === 3 ? 'not-found' : 'input';
  return 'retry';
}

function refusalText(statusClass: number, detail: number): string {
  return REFUSALS.get((statusClass << 8) | detail) ?? 'no reason known';
}

const REFUSALS: ReadonlyMap<number, string> = new Map([
  [0x200, 'initiator error'],
  [0x201, 'authentication failed'],
  [0x202, 'not allowed to use this target'],
  [0x203, 'no such target'],
  [0x204, 'the target has been removed'],
  [0x205, 'unsupported version'],
  [0x206, 'too many connections'],
  [0x207, 'a required key is missing'],
  [0x208, 'cannot be part of this session'],
  [0x209, 'session type not supported'],
  [0x20a, 'no such session'],
  [0x20b, 'invalid during login'],
  [0x300, 'target error'],
  [0x301, 'service unavailable'],
  [0x302, 'out of resources'],
]);

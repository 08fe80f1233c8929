import type { Socket } from 'node:net';
import type { CancelTimer, Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { MIB } from '../base/units.ts';
import { CommandWindow } from './command-window.ts';
import { DEFAULT_MAX_RECV_BYTES, LOGIN_STATUS, MAX_RECV_BYTES, REQUEST } from './constants.ts';
import { Framer } from './framer.ts';
import type { FramingError } from './framer.ts';
import { INITIAL_LOGIN, awaitsProof, loginStep } from './login.ts';
import type { LoginReply, LoginState, LoginStep } from './login.ts';
import { claimOf } from './login-identity.ts';
import type { Claim, Identity, LoginPolicy } from './login-identity.ts';
import type { LoginThrottle } from './login-throttle.ts';
import { ChunkMemory } from './chunk-memory.ts';
import { Outbox } from './outbox.ts';
import { readIntoOwnMemory } from './own-memory.ts';
import type { Receiver } from './own-memory.ts';
import { Pace } from './pace.ts';
import { decodeLogin, opcodeOf } from './requests.ts';
import type { LoginRequest } from './requests.ts';
import { Sender } from './sender.ts';
import type { Session, SessionLink } from './session.ts';
import type { IscsiSettings } from './settings.ts';
import type { ChapRequirement, Proof } from './target-registry.ts';
import { formatText } from './text.ts';
import type { SessionParameters } from './text-keys.ts';
import { Turn } from './turn.ts';

const NOBODY: Claim = { initiatorName: undefined, targetName: undefined };

/** With so much unsent, nothing more is read from the peer until the kernel has taken it all. */
const PAUSE_BACKLOG_BYTES = 4 * MIB;

/** After so many seconds of silence a connection gives back the memory it received and sent much with. */
const RESTS_AFTER_SECONDS = 2;

/** What a session is made of once its login has succeeded. */
export interface Joining {
  readonly identity: Identity;
  readonly proof: Proof;
  /** What the initiator had to prove when the login began. */
  readonly proved: ChapRequirement | undefined;
  readonly parameters: SessionParameters;
  readonly window: CommandWindow;
  readonly outbox: Outbox;
  readonly link: SessionLink;
  /** Whether the initiator still waits for it. */
  readonly wanted: () => boolean;
  /** Ends the session by dropping its connection. */
  readonly cut: (reason: string) => void;
}

export type Joined =
  | { readonly kind: 'session'; readonly session: Session }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string }
  /** The target is served at another portal, at host:port. */
  | { readonly kind: 'moved'; readonly address: string };

export interface ConnectionDeps {
  readonly socket: Socket;
  readonly settings: IscsiSettings;
  readonly clock: Clock;
  readonly policy: LoginPolicy;
  readonly throttle: LoginThrottle;
  /** Normalised address of the peer. */
  readonly address: string;
  readonly log: Log;
  /** Commands one session may have outstanding at the moment. */
  queueDepth(): number;
  /** Makes way for the session, then calls `joined` with it, or with why there is none. */
  join(joining: Joining, joined: (outcome: Joined) => void): void;
  /** A chunk was received, and what could be answered at once has been. */
  received(): void;
  /** A login was refused. */
  refused(claim: Claim, status: number, reason: string): void;
  /** The session is over: nothing comes in for it any more. */
  sessionOver(session: Session, reason: string): void;
  /** The socket is closed for good. */
  gone(): void;
}

type Phase =
  | { readonly kind: 'login'; readonly state: LoginState }
  /** Its answer to a challenge is looked at later: too many were wrong lately. */
  | { readonly kind: 'held'; readonly cancel: CancelTimer }
  /** The login has succeeded, and waits for an older session to end. */
  | { readonly kind: 'joining' }
  | { readonly kind: 'full-feature'; readonly session: Session }
  /** The last answer is on its way out. */
  | { readonly kind: 'closing' }
  | { readonly kind: 'closed' };

/** One TCP connection: bytes in and out, the login, and the watch over a peer that has fallen silent. */
export class Connection implements SessionLink, Receiver {
  readonly #deps: ConnectionDeps;
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #chunks = new ChunkMemory();
  /** Of a long data segment, into which is received. */
  #wanted: Buffer | undefined;
  readonly #sender: Sender;
  #phase: Phase = { kind: 'login', state: INITIAL_LOGIN };
  #outbox: Outbox | undefined;
  #window: CommandWindow | undefined;
  #receiving = false;
  #flushPlanned = false;
  readonly #turn = new Turn();
  #paused = false;
  /** Seconds in the present phase, seconds of silence, seconds the backlog has not moved. */
  #phaseSeconds = 0;
  #silentSeconds = 0;
  #stalledSeconds = 0;
  #lastTakenBytes = 0;
  readonly #pace = new Pace();
  /** The PDU that was not whole a second ago (Framer), and for how many seconds it has not been. */
  #partialPdu = 0;
  #partialSeconds = 0;
  #nextPingTag = 1;

  constructor(deps: ConnectionDeps) {
    this.#deps = deps;
    this.#framer = new Framer(
      {
        destination: (header, bytes) => {
          const destination = this.session?.destination(header, bytes);
          if (destination !== undefined) return destination;
          this.session?.finishGathered(); // the last segment may be among it
          return this.#chunks.segment(bytes);
        },
        pdu: (header, _additional, data, intact) => {
          this.#receive(header, data, intact);
        },
        error: (error) => {
          this.#framingError(error);
        },
      },
      { maxDataBytes: DEFAULT_MAX_RECV_BYTES, headerDigest: false, dataDigest: false },
    );
    // Only now: it asks for memory at once.
    this.#socket = readIntoOwnMemory(deps.socket, this);
    this.#sender = new Sender(this.#socket, () => {
      this.#drained();
    });
    this.#socket.on('end', () => {
      this.close('the peer has closed the connection');
    });
    this.#socket.on('error', (error) => {
      this.close(`the connection failed: ${error.message}`);
    });
    this.#socket.on('close', () => {
      this.close('the connection is closed');
    });
  }

  get session(): Session | undefined {
    return this.#phase.kind === 'full-feature' ? this.#phase.session : undefined;
  }

  memory(): Buffer {
    this.#wanted = this.#framer.wanted;
    return this.#wanted ?? this.#chunks.next();
  }

  received(bytes: number, memory: Buffer): void {
    this.#silentSeconds = 0;
    this.#receiving = true;
    if (this.#wanted === memory) this.#framer.filled(bytes);
    else this.#framer.push(memory.subarray(0, bytes));
    const isFull = bytes === memory.length;
    if (isFull) this.#chunks.grow();
    this.session?.finishGathered();
    this.#receiving = false;
    if (this.#turn.isSentAfter(bytes, isFull)) this.#flush();
    else this.sendSoon();
    this.#deps.received();
  }

  #receive(header: Buffer, data: Buffer, intact: boolean): void {
    const phase = this.#phase;
    switch (phase.kind) {
      case 'full-feature':
        phase.session.receive(header, data, intact);
        return;
      case 'login':
        this.keepChunk();
        if (opcodeOf(header) === REQUEST.login) this.#login(phase.state, decodeLogin(header), data);
        else this.#refuseOther(header);
        return;
      case 'held':
      case 'joining':
        // The initiator has to wait for the answer to its last request.
        this.close('a request came before the login was answered');
        return;
      case 'closing':
      case 'closed':
        return;
    }
  }

  #login(state: LoginState, request: LoginRequest, data: Buffer): void {
    const window = (this.#window ??= new CommandWindow(request.cmdSn, () => this.#deps.queueDepth()));
    this.#outbox ??= new Outbox(this.#sender, window, request.expStatSn);
    const { throttle, address, policy } = this.#deps;
    const name = state.grant?.identity.initiatorName;
    if (name === undefined || request.continued || !awaitsProof(state)) {
      this.#step(request, loginStep(state, request, data, policy));
      return;
    }
    const delayMs = throttle.delayMs(name, address);
    if (delayMs === undefined) {
      this.#refuse(request, LOGIN_STATUS.outOfResources, 'too many logins from this address fail', {
        initiatorName: name,
        targetName: undefined,
      });
      return;
    }
    const judge = (text: Buffer): void => {
      const step = loginStep(state, request, text, policy);
      if (step.kind === 'refuse' && step.guess) throttle.failed(name, address);
      else if (step.kind !== 'refuse') throttle.succeeded(name, address);
      this.#step(request, step);
    };
    if (delayMs === 0) {
      judge(data);
      return;
    }
    const kept = Buffer.from(data); // it must not keep the chunk it came in
    this.#hold(delayMs, () => {
      judge(kept);
    });
  }

  #hold(delayMs: number, then: () => void): void {
    const { clock, throttle, address } = this.#deps;
    throttle.hold(address);
    const cancelTimer = clock.startTimer(delayMs, () => {
      throttle.release(address);
      then();
      this.sendSoon();
    });
    const cancel = (): void => {
      cancelTimer();
      throttle.release(address);
    };
    this.#phase = { kind: 'held', cancel };
  }

  #step(request: LoginRequest, step: LoginStep): void {
    switch (step.kind) {
      case 'continue':
        this.#phase = { kind: 'login', state: step.state };
        this.#reply(request, step.reply, 0);
        return;
      case 'refuse':
        this.#refuse(request, step.reply.status, step.reason, step.claim);
        return;
      case 'complete':
        this.#join(request, step);
        return;
    }
  }

  /** The last answer of the login waits until the session may start. */
  #join(request: LoginRequest, step: Extract<LoginStep, { kind: 'complete' }>): void {
    const { window, outbox } = this.#ready();
    const { identity, parameters, proof, proved, reply } = step;
    this.#phase = { kind: 'joining' };
    const wanted = (): boolean => this.#phase.kind === 'joining';
    const cut = (reason: string): void => {
      this.close(reason);
    };
    const joining = { identity, proof, proved, parameters, window, outbox, link: this, wanted, cut };
    this.#deps.join(joining, (outcome) => {
      if (outcome.kind === 'refused') {
        this.#refuse(request, outcome.status, outcome.reason, claimOf(identity));
      } else if (outcome.kind === 'moved') {
        this.#redirect(request, outcome.address);
      } else {
        this.#reply(request, reply, outcome.session.tsih);
        this.#enterFullFeature(outcome.session, parameters);
      }
      this.sendSoon();
    });
  }

  /** What was negotiated holds from the PDU after the last login response (RFC 7143 6.3). */
  #enterFullFeature(session: Session, parameters: SessionParameters): void {
    const { headerDigest, dataDigest, initiatorMaxRecvBytes, maxBurstBytes } = parameters;
    this.#phase = { kind: 'full-feature', session };
    this.#phaseSeconds = 0;
    this.#sender.setDigests(headerDigest, dataDigest);
    this.#ready().outbox.setLimits(initiatorMaxRecvBytes, maxBurstBytes);
    this.#framer.setLimits({ maxDataBytes: MAX_RECV_BYTES, headerDigest, dataDigest });
  }

  /** RFC 7143 11.13.5 and 13.8: in a redirection the address has no portal group tag. */
  #redirect(request: LoginRequest, address: string): void {
    const { currentStage, nextStage } = request;
    const text: LoginReply['text'] = [['TargetAddress', address]];
    const status = LOGIN_STATUS.targetMovedTemporarily;
    this.#reply(request, { status, transit: false, currentStage, nextStage, text }, 0);
    this.closeAfterSending(`the target is served at ${address}`);
  }

  #refuse(request: LoginRequest, status: number, reason: string, claim: Claim = NOBODY): void {
    const { currentStage, nextStage } = request;
    this.#deps.refused(claim, status, reason);
    this.#reply(request, { status, transit: false, currentStage, nextStage, text: [] }, 0);
    this.closeAfterSending(reason);
  }

  #reply(request: LoginRequest, reply: LoginReply, tsih: number): void {
    const text = formatText(reply.text);
    const { isid, initiatorTaskTag } = request;
    const { transit, currentStage, nextStage, status } = reply;
    this.#ready().outbox.login(
      {
        transit,
        continued: false,
        currentStage,
        nextStage,
        isid,
        tsih: tsih === 0 ? request.tsih : tsih,
        initiatorTaskTag,
        status,
        dataBytes: text.length,
      },
      text,
    );
  }

  /** Anything but a login before the login (RFC 7143 6.3, 11.13.5): answered once it can be, and dropped. */
  #refuseOther(header: Buffer): void {
    if (this.#outbox === undefined) {
      this.close('the first request is no login');
      return;
    }
    this.#refuse(
      decodeLogin(header),
      LOGIN_STATUS.invalidDuringLogin,
      'a request that is no login came during the login',
    );
  }

  #ready(): { window: CommandWindow; outbox: Outbox } {
    const window = (this.#window ??= new CommandWindow(0, () => this.#deps.queueDepth()));
    const outbox = (this.#outbox ??= new Outbox(this.#sender, window, 0));
    return { window, outbox };
  }

  #framingError(error: FramingError): void {
    this.close(`the byte stream cannot be followed (${error})`);
  }

  keepChunk(data?: Buffer): void {
    this.#chunks.keep(data);
  }

  /** At the end of the turn, together with everything else that is answered in it. */
  sendSoon(): void {
    if (this.#receiving || this.#flushPlanned) return;
    this.#flushPlanned = true;
    setImmediate(() => {
      this.#flushPlanned = false;
      this.#flush();
    });
  }

  closeAfterSending(reason: string): void {
    if (this.#phase.kind === 'closed' || this.#phase.kind === 'closing') return;
    const { session } = this;
    this.#deps.log.debug({ reason }, 'connection closing');
    this.#phase = { kind: 'closing' };
    this.#phaseSeconds = 0;
    this.#framer.stop();
    this.#flush();
    this.#sender.end();
    if (session !== undefined) this.#deps.sessionOver(session, reason);
  }

  /** Drops the connection at once. */
  close(reason: string): void {
    if (this.#phase.kind === 'closed') return;
    const { session } = this;
    const wasClosing = this.#phase.kind === 'closing';
    if (this.#phase.kind === 'held') this.#phase.cancel();
    this.#phase = { kind: 'closed' };
    this.#framer.stop();
    this.#socket.destroy();
    if (session !== undefined) {
      this.#deps.log.info({ reason, initiator: session.identity.initiatorName }, 'session ended');
      this.#deps.sessionOver(session, reason);
    } else if (!wasClosing) {
      this.#deps.log.debug({ reason }, 'connection closed');
    }
    this.#deps.gone();
  }

  /** Sends what was gathered. Answers of reads that had to wait for room come in further rounds. */
  #flush(): void {
    this.#turn.sent();
    for (;;) {
      if (this.#phase.kind === 'closed') return;
      const taken = this.#sender.flush();
      if (!taken || this.#phase.kind !== 'full-feature') break;
      this.#phase.session.sent();
      if (!this.#sender.hasGathered) break;
    }
    if (this.#paused || this.#sender.backlogBytes <= PAUSE_BACKLOG_BYTES) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** The kernel has caught up. */
  #drained(): void {
    this.#flush();
    if (!this.#paused || this.#sender.backlogBytes > PAUSE_BACKLOG_BYTES) return;
    this.#paused = false;
    this.#socket.resume();
  }

  /** Once a second: logins that take too long, peers that are silent or take nothing. */
  tick(): void {
    const { settings } = this.#deps;
    this.#phaseSeconds += 1;
    if (this.#isStalled()) {
      this.close('the peer takes nothing of what it is sent');
      return;
    }
    switch (this.#phase.kind) {
      case 'login':
      case 'held':
      case 'joining':
      case 'closing':
        if (this.#phaseSeconds > settings.loginTimeoutSeconds) this.close('login or logout took too long');
        return;
      case 'full-feature':
        if (this.#phase.session.owesData())
          this.close('the peer does not send the data of its writes, or a command it left out');
        else if (this.#keepsOthersWaiting(this.#phase.session))
          this.close('the peer takes what it reads too slowly, and others wait for the memory');
        else if (this.#isTrickling()) this.close('the peer does not finish what it has begun to send');
        else this.#watchSilence();
        return;
      case 'closed':
        return;
    }
  }

  /** Whether the kernel has taken anything counts, not how much waits: what is added to it would look like movement. */
  #isStalled(): boolean {
    const { backlogBytes, takenBytes } = this.#sender;
    const moved = backlogBytes === 0 || takenBytes !== this.#lastTakenBytes;
    this.#lastTakenBytes = takenBytes;
    this.#stalledSeconds = moved ? 0 : this.#stalledSeconds + 1;
    return this.#stalledSeconds > this.#deps.settings.stallTimeoutSeconds;
  }

  #keepsOthersWaiting(session: Session): boolean {
    const { backlogBytes, takenBytes } = this.#sender;
    return this.#pace.isTooSlow(backlogBytes > 0 && session.deprivesOthers(), takenBytes);
  }

  /** A PDU takes memory from its header on, and a peer that sends a byte now and then is never silent. */
  #isTrickling(): boolean {
    const { unfinished } = this.#framer;
    const isSame = unfinished !== 0 && unfinished === this.#partialPdu && !this.#paused;
    this.#partialPdu = unfinished;
    this.#partialSeconds = isSame ? this.#partialSeconds + 1 : 0;
    return this.#partialSeconds > this.#deps.settings.dataTimeoutSeconds;
  }

  /** A silent peer is pinged once, and given up when it stays silent. While we do not read we do not judge. */
  #watchSilence(): void {
    if (this.#paused) return;
    const { pingAfterSeconds, pingTimeoutSeconds } = this.#deps.settings;
    this.#silentSeconds += 1;
    if (this.#silentSeconds === RESTS_AFTER_SECONDS) {
      this.#chunks.rest();
      this.#sender.rest();
    }
    if (this.#silentSeconds > pingAfterSeconds + pingTimeoutSeconds) {
      this.close('the peer does not answer pings');
    } else if (this.#silentSeconds === pingAfterSeconds) {
      this.#ready().outbox.ping(this.#nextPingTag);
      this.#nextPingTag += 1;
      this.#flush();
    }
  }
}

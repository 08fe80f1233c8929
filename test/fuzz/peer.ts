import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { KIND } from '../support/iscsi-wire.ts';
import { MARKER } from './fuzz-world.ts';

const KNOWN: ReadonlySet<number> = new Set(Object.values(KIND));
const NOTHING = Buffer.alloc(0);

/** A Login Response, as far as the next request depends on it. */
export interface LoginAnswer {
  readonly status: number;
  /** In full feature phase now. */
  readonly done: boolean;
  readonly data: Buffer;
}

/** What the target has done that it must not do; fatal for the campaign. */
export class Misdeed extends Error {}

/**
 * One connection of the fuzzer. Everything received is searched for the marker of the witness, and has to be PDUs of a
 * target from end to end.
 */
export class Peer {
  readonly socket: Socket;
  readonly #onMisdeed: (misdeed: Misdeed) => void;
  readonly #logins: LoginAnswer[] = [];
  #wake: () => void = () => undefined;
  /** The end of what was searched, where the marker may have begun. */
  #tail: Buffer = NOTHING;
  /** The start of a PDU that has not come in full. */
  #header: Buffer = NOTHING;
  /** Bytes of the present PDU that follow its header. */
  #skip = 0;
  #loginData: Buffer[] | undefined;
  #digests = { header: false, data: false };
  closed = false;
  received = 0;
  /** SCSI answers by status, to see how deep the fuzzer gets. */
  good = 0;
  refused = 0;

  constructor(port: number, localAddress: string, onMisdeed: (misdeed: Misdeed) => void) {
    this.#onMisdeed = onMisdeed;
    this.socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
    this.socket.on('data', (chunk: Buffer) => {
      this.#search(chunk);
      this.#parse(chunk);
      this.#wake();
    });
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  useDigests(header: boolean, data: boolean): void {
    this.#digests = { header, data };
  }

  /** Waits for what the target says next, or until it closes, at most so long. */
  async wait(ms: number): Promise<void> {
    if (this.closed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => undefined;
  }

  /** The next Login Response; undefined when none comes in time. */
  async login(ms: number): Promise<LoginAnswer | undefined> {
    const end = performance.now() + ms;
    while (this.#logins.length === 0 && !this.closed && performance.now() < end)
      await this.wait(end - performance.now());
    return this.#logins.shift();
  }

  async untilClosed(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (!this.closed && performance.now() < end) await this.wait(end - performance.now());
  }

  #search(chunk: Buffer): void {
    const joint = Buffer.concat([this.#tail, chunk.subarray(0, MARKER.length)]);
    if (chunk.includes(MARKER) || joint.includes(MARKER))
      this.#onMisdeed(new Misdeed('the fuzzer received bytes of the witness'));
    const end = chunk.length >= MARKER.length ? chunk : Buffer.concat([this.#tail, chunk]);
    this.#tail = Buffer.from(end.subarray(Math.max(0, end.length - MARKER.length + 1)));
  }

  #parse(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const count = Math.min(this.#skip, chunk.length - at);
        this.#loginData?.push(Buffer.from(chunk.subarray(at, at + count)));
        this.#skip -= count;
        at += count;
        if (this.#skip === 0) this.#whole();
        continue;
      }
      const count = Math.min(48 - this.#header.length, chunk.length - at);
      this.#header =
        count === 48 ? chunk.subarray(at, at + 48) : Buffer.concat([this.#header, chunk.subarray(at, at + count)]);
      at += count;
      if (this.#header.length < 48) return;
      this.#begin(this.#header);
      if (this.#skip === 0) this.#whole();
    }
  }

  #begin(header: Buffer): void {
    const opcode = header.readUInt8(0);
    if (!KNOWN.has(opcode) || header.readUInt8(4) !== 0)
      this.#onMisdeed(new Misdeed(`the target sent what is no PDU of a target: ${header.toString('hex')}`));
    const bytes = header.readUInt32BE(4) & 0xff_ffff;
    this.#skip = ((bytes + 3) & ~3) + (this.#digests.header ? 4 : 0) + (this.#digests.data && bytes > 0 ? 4 : 0);
    if (opcode === KIND.login) this.#loginData = [];
    const hasStatus = opcode === KIND.scsiResponse || (opcode === KIND.dataIn && (header.readUInt8(1) & 1) === 1);
    if (hasStatus && header.readUInt8(3) === 0) this.good += 1;
    else if (hasStatus) this.refused += 1;
  }

  #whole(): void {
    const header = this.#header;
    this.#header = NOTHING;
    this.received += 1;
    if (this.#loginData === undefined) return;
    const data = Buffer.concat(this.#loginData).subarray(0, header.readUInt32BE(4) & 0xff_ffff);
    this.#loginData = undefined;
    const flags = header.readUInt8(1);
    const status = header.readUInt16BE(36);
    this.#logins.push({ status, done: status === 0 && (flags & 0x83) === 0x83, data });
  }
}

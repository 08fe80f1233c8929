import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { invariant } from '../../gateway/base/errors.ts';
import {
  KIND,
  ResponseParser,
  buildCommand,
  buildLogin,
  buildRequest,
  keysOf,
  textOf,
  withDigests,
} from './iscsi-wire.ts';
import type { CommandFields, LoginFields, Response } from './iscsi-wire.ts';

export interface LoginOptions extends LoginFields {
  readonly target?: string;
  readonly initiator?: string;
}

const DEFAULT_INITIATOR = 'iqn.2026-11.dev.farshore.test:initiator';

/** What a test says to a target over a real socket, PDU by PDU; nothing is done behind its back but counting CmdSN. */
export class RawInitiator {
  readonly socket: Socket;
  readonly #parser = new ResponseParser();
  readonly #arrived: Response[] = [];
  #wake: () => void = () => undefined;
  #closed = false;
  #digests = { header: false, data: false };
  cmdSn = 1;
  nextItt = 100;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#parser.push(chunk);
      for (let response = this.#parser.next(); response !== undefined; response = this.#parser.next())
        this.#arrived.push(response);
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async connect(port: number, host = '127.0.0.1'): Promise<RawInitiator> {
    const socket = connect({ port, host, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new RawInitiator(socket);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  send(...pdus: readonly Buffer[]): void {
    this.socket.write(this.framed(...pdus));
  }

  /** The bytes of these PDUs, with the digests that were agreed on. */
  framed(...pdus: readonly Buffer[]): Buffer {
    const { header, data } = this.#digests;
    return Buffer.concat(header || data ? pdus.map((pdu) => withDigests(pdu, { header, data })) : pdus);
  }

  sendBytes(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** The next response, or undefined when the target closes the connection first. */
  async receive(): Promise<Response | undefined> {
    for (;;) {
      const next = this.#arrived.shift();
      if (next !== undefined) return next;
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next response, which must be of this opcode. */
  async expect(opcode: number): Promise<Response> {
    const response = await this.receive();
    invariant(response !== undefined, `the connection was closed instead of a ${opcode.toString(16)}h`);
    invariant(
      response.opcode === opcode,
      `a ${response.opcode.toString(16)}h came instead of a ${opcode.toString(16)}h`,
    );
    return response;
  }

  /** Resolves when the target has closed the connection; what it still sent is dropped. */
  async closed(): Promise<void> {
    while ((await this.receive()) !== undefined);
  }

  /** One login exchange straight to full feature phase; the last response. */
  async login(options: LoginOptions = {}): Promise<Response> {
    const { target, initiator, keys, ...fields } = options;
    this.send(
      buildLogin({
        transit: true,
        csg: 1,
        nsg: 3,
        cmdSn: this.cmdSn,
        ...fields,
        keys: {
          InitiatorName: initiator ?? DEFAULT_INITIATOR,
          ...(target === undefined ? { SessionType: 'Discovery' } : { SessionType: 'Normal', TargetName: target }),
          ...keys,
        },
      }),
    );
    const response = await this.expect(KIND.login);
    if (response.word36 >>> 16 === 0) {
      const settled = keysOf(response.data);
      this.useDigests(settled['HeaderDigest'] === 'CRC32C', settled['DataDigest'] === 'CRC32C');
    }
    return response;
  }

  useDigests(header: boolean, data: boolean): void {
    this.#digests = { header, data };
    this.#parser.digests = { header, data };
  }

  /** Sends a command with the next CmdSN; its ITT. */
  command(fields: Omit<CommandFields, 'itt' | 'cmdSn'>): number {
    const itt = this.nextItt++;
    this.send(buildCommand({ ...fields, itt, cmdSn: this.cmdSn++ }));
    return itt;
  }

  /** A command and its answer; Data-In PDUs are put together. The first unit attention is got out of the way by `clear`. */
  async run(fields: Omit<CommandFields, 'itt' | 'cmdSn'>): Promise<{ status: number; data: Buffer; last: Response }> {
    const itt = this.command(fields);
    const parts: Buffer[] = [];
    for (;;) {
      const response = await this.receive();
      invariant(response !== undefined, 'the connection was closed during a command');
      invariant(response.itt === itt, `an answer to ${response.itt} came instead of one to ${itt}`);
      if (response.opcode === KIND.dataIn) {
        parts.push(response.data);
        if ((response.flags & 0x01) !== 0)
          return { status: response.byte3, data: Buffer.concat(parts), last: response };
        continue;
      }
      invariant(response.opcode === KIND.scsiResponse, `unexpected ${response.opcode.toString(16)}h`);
      return { status: response.byte3, data: Buffer.concat(parts), last: response };
    }
  }

  /** TEST UNIT READY until the unit attentions are told. */
  async clear(lun = 0): Promise<void> {
    for (let tries = 0; tries < 8; tries += 1) {
      const { status } = await this.run({ cdb: Buffer.alloc(16), lun });
      if (status === 0) return;
    }
    throw new Error('unit attentions do not end');
  }

  /** A text request; the keys of the answer. */
  async text(keys: Readonly<Record<string, string>>): Promise<Record<string, string>> {
    this.send(
      buildRequest({ opcode: 0x04, itt: this.nextItt++, word20: 0xffff_ffff, cmdSn: this.cmdSn++, data: textOf(keys) }),
    );
    return keysOf((await this.expect(KIND.text)).data);
  }

  destroy(): void {
    this.socket.destroy();
  }
}

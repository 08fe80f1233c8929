import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { pdu } from './target-pdus.ts';
import type { PduFields } from './target-pdus.ts';

/** A request of the initiator, taken apart by hand. */
export interface Request {
  readonly opcode: number;
  readonly flags: number;
  readonly tag: number;
  readonly header: Buffer;
  readonly data: Buffer;
}

export interface Script {
  /** Keys answered in the operational stage. */
  readonly keys?: Readonly<Record<string, string>>;
  /** Answers the login itself when it returns a PDU. */
  readonly login?: (request: Request, attempt: number) => PduFields | undefined;
  readonly onRequest: (request: Request, target: ScriptedTarget) => void;
  /** The command window granted at login, in commands. */
  readonly window?: number;
}

/** A target that does exactly what a test says, good or bad; without digests. */
export class ScriptedTarget {
  readonly requests: Request[] = [];
  port = 0;
  statSn = 100;
  maxCmdSn = 0;
  private readonly script: Script;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private logins = 0;

  constructor(script: Script) {
    this.script = script;
    this.maxCmdSn = script.window ?? 64;
    this.server = createServer((socket) => {
      this.serve(socket);
    });
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => {
      this.server.listen(0, '127.0.0.1', resolve);
    });
    const address = this.server.address();
    if (address !== null && typeof address === 'object') this.port = address.port;
    return this;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.server.close(() => {
        resolve();
      });
    });
  }

  /** Sends a PDU that carries no status: StatSN is the next one and does not advance. */
  send(fields: PduFields): void {
    const words = { 24: this.statSn, 28: 1, 32: this.maxCmdSn, ...fields.words };
    for (const socket of this.sockets) socket.write(pdu({ ...fields, words }));
  }

  /** Sends a PDU with a status. */
  respond(fields: PduFields): void {
    this.send(fields);
    this.statSn += 1;
  }

  /** A SCSI response; `sense` makes it a CHECK CONDITION. */
  scsiResponse(tag: number, status = 0, sense?: Buffer): void {
    const data = sense === undefined ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0, sense.length]), sense]);
    this.respond({ opcode: 0x21, bytes: { 3: status }, words: { 16: tag }, data });
  }

  hangUp(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
    let pending: Buffer = Buffer.alloc(0);
    let fullFeature = false;
    socket.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        if (pending.length < 48) return;
        const length = pending.readUIntBE(5, 3);
        const whole = 48 + length + ((4 - (length % 4)) % 4);
        if (pending.length < whole) return;
        const header = Buffer.from(pending.subarray(0, 48));
        const data = Buffer.from(pending.subarray(48, 48 + length));
        pending = pending.subarray(whole);
        const opcode = (header[0] ?? 0) & 0x3f;
        const request = { opcode, flags: header[1] ?? 0, tag: header.readUInt32BE(16), header, data };
        if (fullFeature) {
          this.requests.push(request);
          this.script.onRequest(request, this);
        } else {
          fullFeature = this.answerLogin(request);
        }
      }
    });
  }

  private answerLogin(request: Request): boolean {
    const attempt = this.logins;
    this.logins += 1;
    const own = this.script.login?.(request, attempt);
    if (own !== undefined) {
      this.respond(own);
      return false;
    }
    const operational = ((request.flags >> 2) & 3) === 1;
    const keys = operational ? (this.script.keys ?? {}) : { AuthMethod: 'None', TargetPortalGroupTag: '1' };
    const text = Object.entries(keys).map(([key, value]) => `${key}=${value}\0`);
    this.respond({
      opcode: 0x23,
      flags: request.flags,
      bytes: operational ? { 15: 1 } : {},
      words: { 16: request.tag },
      data: Buffer.from(text.join('')),
    });
    return operational;
  }
}

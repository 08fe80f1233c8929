/**
 * A load on one LUN made of PDUs that are built beforehand, so that this process costs little beside the target:
 *   npx tsx test/support/front-load.ts --port N [--iqn NAME] [--case read] [--bytes 4096] [--depth 32] [--seconds 2] [--rounds 5] [--pid N]
 * Cases: read, write, mixed (seven reads to three writes). With the target's pid: CPU time of its main thread an operation, and the
 * least of the rounds, which the load of the machine disturbs least.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { MIB } from '../../gateway/base/units.ts';
import { KIND, buildCommand, buildLogin, cdb, keysOf, textOf } from './iscsi-wire.ts';
import type { Response } from './iscsi-wire.ts';
import { ResponseParser } from './iscsi-wire.ts';

const SECTOR = 512;
const HEADER = 48;
const SPAN = 128 * MIB;

interface LoadOptions {
  readonly port: number;
  readonly iqn: string;
  readonly kind: string;
  readonly bytes: number;
  readonly depth: number;
}

/** Waits for the next response while nothing is under way but one request. */
async function ask(socket: Socket, pdu: Buffer): Promise<Response> {
  const parser = new ResponseParser();
  return new Promise((resolve) => {
    const take = (chunk: Buffer): void => {
      parser.push(chunk);
      const response = parser.next();
      if (response === undefined) return;
      socket.off('data', take);
      resolve(response);
    };
    socket.on('data', take);
    socket.write(pdu);
  });
}

/** Keeps `depth` operations under way on a session of its own. */
class Load {
  readonly #socket: Socket;
  readonly #options: LoadOptions;
  #cmdSn = 1;
  /** One PDU for each slot and kind; the task tag is the slot. */
  readonly #reads: Buffer[] = [];
  readonly #writes: Buffer[] = [];
  readonly #header = Buffer.alloc(HEADER);
  #headerBytes = 0;
  #skip = 0;
  #turn: Buffer[] = [];
  #random = 12345;
  #stopping = false;
  #active = 0;
  #stopped: () => void = () => undefined;
  operations = 0;

  constructor(socket: Socket, options: LoadOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  async login(): Promise<void> {
    const keys = {
      InitiatorName: 'iqn.2026-11.dev.farshore:load',
      SessionType: 'Normal',
      TargetName: this.#options.iqn,
      ImmediateData: 'Yes',
      InitialR2T: 'No',
      FirstBurstLength: '262144',
      MaxBurstLength: '1048576',
      MaxRecvDataSegmentLength: '262144',
    };
    const answer = await ask(
      this.#socket,
      buildLogin({ transit: true, csg: 1, nsg: 3, cmdSn: this.#cmdSn, text: textOf(keys) }),
    );
    if (answer.word36 >>> 16 !== 0) throw new Error(`login refused: ${JSON.stringify(keysOf(answer.data))}`);
    for (let status = 2; status !== 0;) {
      const ready = buildCommand({ cdb: cdb(0), itt: 0, cmdSn: this.#cmdSn++ });
      status = (await ask(this.#socket, ready)).byte3;
    }
    const { bytes, depth } = this.#options;
    const data = Buffer.alloc(bytes, 0x5a);
    for (let slot = 0; slot < depth; slot += 1) {
      const read = buildCommand({ cdb: cdb(0x88), itt: slot, cmdSn: 0, read: true, expectedBytes: bytes });
      const write = buildCommand({ cdb: cdb(0x8a), itt: slot, cmdSn: 0, write: true, expectedBytes: bytes, data });
      for (const pdu of [read, write]) pdu.writeUInt32BE(bytes / SECTOR, 32 + 10);
      this.#reads.push(read);
      this.#writes.push(write);
    }
    this.#socket.on('data', (chunk: Buffer) => {
      this.#received(chunk);
    });
  }

  start(): void {
    for (let slot = 0; slot < this.#options.depth; slot += 1) this.#next(slot);
    this.#send();
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await new Promise<void>((resolve) => {
      this.#stopped = resolve;
    });
    this.#socket.destroy();
  }

  #next(slot: number): void {
    const { kind, bytes } = this.#options;
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    const isRead = kind === 'read' || (kind === 'mixed' && (this.#random >>> 8) % 10 < 7);
    const pdu = (isRead ? this.#reads : this.#writes)[slot];
    if (pdu === undefined) return;
    const at = (this.#random >>> 8) % (SPAN / bytes);
    pdu.writeUInt32BE(at * (bytes / SECTOR), 32 + 6);
    pdu.writeUInt32BE(this.#cmdSn, 24);
    this.#cmdSn = (this.#cmdSn + 1) >>> 0;
    this.#turn.push(pdu);
    this.#active += 1;
  }

  /** All that this turn has made, in one system call. */
  #send(): void {
    const [only] = this.#turn;
    if (only === undefined) return;
    const bytes = this.#turn.length === 1 ? only : Buffer.concat(this.#turn);
    this.#turn = [];
    this.#socket.write(bytes);
  }

  #received(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
        continue;
      }
      const count = Math.min(HEADER - this.#headerBytes, chunk.length - at);
      chunk.copy(this.#header, this.#headerBytes, at, at + count);
      this.#headerBytes += count;
      at += count;
      if (this.#headerBytes < HEADER) break;
      this.#headerBytes = 0;
      const header = this.#header;
      this.#skip = ((header.readUInt32BE(4) & 0xff_ffff) + 3) & ~3;
      const opcode = header[0];
      const isLast = opcode === KIND.scsiResponse || (opcode === KIND.dataIn && ((header[1] ?? 0) & 1) === 1);
      if (!isLast) continue;
      if (header[3] !== 0) throw new Error(`status ${header[3] ?? 0}`);
      this.operations += 1;
      this.#active -= 1;
      if (!this.#stopping) this.#next(header.readUInt32BE(16));
    }
    this.#send();
    if (this.#stopping && this.#active === 0 && this.#skip === 0) this.#stopped();
  }
}

/** Nanoseconds that the main thread of a process has run (proc(5), /proc/<pid>/schedstat). */
function ranNs(pid: string): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[0]);
}

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '3260' },
    iqn: { type: 'string', default: 'iqn.2026-11.dev.farshore:ram' },
    case: { type: 'string', default: 'read' },
    bytes: { type: 'string', default: '4096' },
    depth: { type: 'string', default: '32' },
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '5' },
    pid: { type: 'string' },
  },
});
const socket = connect({ port: Number(values.port), host: '127.0.0.1', noDelay: true });
const load = new Load(socket, {
  port: Number(values.port),
  iqn: values.iqn,
  kind: values.case,
  bytes: Number(values.bytes),
  depth: Number(values.depth),
});
await load.login();
load.start();
const rounds: { readonly iops: number; readonly targetUs: number; readonly ownUs: number }[] = [];
for (let round = 0; round <= Number(values.rounds); round += 1) {
  const startedAt = process.hrtime.bigint();
  const before = load.operations;
  const ranBefore = values.pid === undefined ? 0 : ranNs(values.pid);
  const ownBefore = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, Number(values.seconds) * 1000));
  const operations = load.operations - before;
  const own = process.cpuUsage(ownBefore);
  const seconds = Number(process.hrtime.bigint() - startedAt) / 1e9;
  if (round === 0) continue; // warms up
  rounds.push({
    iops: operations / seconds,
    targetUs: values.pid === undefined ? 0 : (ranNs(values.pid) - ranBefore) / 1000 / operations,
    ownUs: (own.user + own.system) / operations,
  });
}
await load.stop();
const iops = Math.max(...rounds.map((round) => round.iops));
console.log(
  `${values.case} ${values.bytes} depth ${values.depth}: ${iops.toFixed(0)} IOPS, ${((iops * Number(values.bytes)) / MIB).toFixed(0)} MiB/s, ` +
    `target ${Math.min(...rounds.map((round) => round.targetUs)).toFixed(2)} µs/op, load ${Math.min(...rounds.map((round) => round.ownUs)).toFixed(2)} µs/op`,
);

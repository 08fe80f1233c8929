/**
 * What the front end costs without a socket: prepared chunks through framer, session and a device without storage into a
 * socket that drops what it is given.
 *   npx tsx test/support/front-bench.ts [--case read16] [--bytes 4096] [--depth 32] [--rounds 400]
 * Prints microseconds an operation, the least of many short rounds: the load of the machine disturbs that least.
 */
import { parseArgs } from 'node:util';
import { silentLog } from '../../gateway/base/log.ts';
import { MIB } from '../../gateway/base/units.ts';
import { ByteBudget } from '../../gateway/iscsi/budget.ts';
import { CommandWindow } from '../../gateway/iscsi/command-window.ts';
import { Framer } from '../../gateway/iscsi/framer.ts';
import { Outbox } from '../../gateway/iscsi/outbox.ts';
import { Sender } from '../../gateway/iscsi/sender.ts';
import type { OutgoingSocket } from '../../gateway/iscsi/sender.ts';
import { Session } from '../../gateway/iscsi/session.ts';
import { DEFAULT_ISCSI_SETTINGS } from '../../gateway/iscsi/settings.ts';
import { TaskOrder } from '../../gateway/iscsi/task-order.ts';
import { LogicalUnits } from '../../gateway/scsi/logical-unit.ts';
import { buildCommand, cdb } from './iscsi-wire.ts';
import { NullDevice } from './null-device.ts';
import { PromptClock } from './prompt-clock.ts';

/** As long as what a socket gives at once. */
const CHUNK_BYTES = 65_536;
const SECTOR = 512;
const LUN_BYTES = 1024 * MIB;

/** The kernel takes everything at once. */
class Sink implements OutgoingSocket {
  readonly writable = true;
  readonly writableLength = 0;
  bytes = 0;

  cork(): void {
    return undefined;
  }

  uncork(): void {
    return undefined;
  }

  write(bytes: Buffer): boolean {
    this.bytes += bytes.length;
    return true;
  }
}

/** Framer, session and outbox of one logged in initiator. */
class Front {
  readonly sink = new Sink();
  readonly #sender = new Sender(this.sink, () => undefined);
  readonly #session: Session;
  readonly #framer: Framer;

  constructor() {
    const window = new CommandWindow(1, () => DEFAULT_ISCSI_SETTINGS.queueDepth);
    const outbox = new Outbox(this.#sender, window, 1);
    outbox.setLimits(256 * 1024, MIB);
    const budget = new ByteBudget(256 * MIB);
    const name = 'iqn.2026-11.dev.farshore:load';
    const luns = new Map([
      [0, { device: new NullDevice({ bytes: LUN_BYTES, sectorSize: SECTOR }), readOnly: false, state: undefined }],
    ]);
    const target = { name: 'iqn.2026-11.dev.farshore:null', luns: () => luns };
    this.#session = new Session({
      identity: {
        initiatorName: name,
        sessionType: 'normal',
        targetName: target.name,
        isid: '00023d000001',
        connectionId: 0,
        reinstates: 0,
      },
      initiator: { name, address: '127.0.0.1' },
      tsih: 1,
      target,
      parameters: {
        headerDigest: false,
        dataDigest: false,
        initiatorMaxRecvBytes: 256 * 1024,
        maxBurstBytes: MIB,
        firstBurstBytes: 256 * 1024,
        initialR2t: false,
        immediateData: true,
      },
      settings: DEFAULT_ISCSI_SETTINGS,
      window,
      outbox,
      link: { sendSoon: () => undefined, closeAfterSending: () => undefined },
      units: new LogicalUnits(() => undefined, new PromptClock()),
      order: new TaskOrder(),
      writeBudget: budget.shareOf('127.0.0.1', name),
      readBudget: budget.shareOf('127.0.0.1', name),
      log: silentLog,
      sessions: () => [this.#session],
      sendTargets: () => [],
    });
    this.#framer = new Framer(
      {
        destination: (header, bytes) => this.#session.destination(header, bytes),
        pdu: (header, _additional, data, intact) => {
          this.#session.receive(header, data, intact);
        },
        error: (error) => {
          throw new Error(error);
        },
      },
      { maxDataBytes: 256 * 1024, headerDigest: false, dataDigest: false },
    );
  }

  push(chunk: Buffer): void {
    this.#framer.push(chunk);
    this.#sender.flush();
    this.#session.sent();
  }
}

const { values } = parseArgs({
  options: {
    case: { type: 'string', default: 'read16' },
    bytes: { type: 'string', default: '4096' },
    depth: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '400' },
  },
});
const bytes = Number(values.bytes);
const depth = Number(values.depth);
const isRead = values.case.startsWith('read');
const isLong = values.case.endsWith('16');
const front = new Front();
let cmdSn = 1;
front.push(buildCommand({ cdb: cdb(0), itt: 0, cmdSn: cmdSn++ })); // takes the unit attention

const pdus: Buffer[] = [];
for (let slot = 0; slot < depth; slot += 1) {
  const opcode = isLong ? (isRead ? 0x88 : 0x8a) : isRead ? 0x28 : 0x2a;
  const block = cdb(opcode);
  if (isLong) {
    block.writeUInt32BE(slot * 1000, 6);
    block.writeUInt32BE(bytes / SECTOR, 10);
  } else {
    block.writeUInt32BE(slot * 1000, 2);
    block.writeUInt16BE(bytes / SECTOR, 7);
  }
  const out = isRead ? { read: true } : { write: true, data: Buffer.alloc(bytes, slot) };
  pdus.push(buildCommand({ cdb: block, itt: slot, cmdSn: 0, expectedBytes: bytes, ...out }));
}
const stream = Buffer.concat(pdus);
const pduBytes = stream.length / depth;

/** One turn: the same PDUs with the next command numbers, cut as a socket would; each chunk is memory of its own, as from a socket. */
function turn(): number {
  for (let slot = 0; slot < depth; slot += 1) stream.writeUInt32BE(cmdSn++ >>> 0, slot * pduBytes + 24);
  const chunks: Buffer[] = [];
  for (let at = 0; at < stream.length; at += CHUNK_BYTES) {
    const part = stream.subarray(at, at + CHUNK_BYTES);
    const chunk = Buffer.allocUnsafeSlow(part.length);
    part.copy(chunk);
    chunks.push(chunk);
  }
  const startedAt = process.hrtime.bigint();
  for (const chunk of chunks) front.push(chunk);
  return Number(process.hrtime.bigint() - startedAt);
}

for (let warm = 0; warm < 2000; warm += 1) turn();
const perRound = Math.max(1, Math.floor(2000 / depth));
const rounds: number[] = [];
const heapBefore = process.memoryUsage().heapUsed;
for (let round = 0; round < Number(values.rounds); round += 1) {
  let ns = 0;
  for (let i = 0; i < perRound; i += 1) ns += turn();
  rounds.push(ns / perRound / depth / 1000);
}
rounds.sort((a, b) => a - b);
const median = rounds[Math.floor(rounds.length / 2)] ?? 0;
console.log(
  `${values.case} ${bytes} depth ${depth}: least ${(rounds[0] ?? 0).toFixed(2)}, median ${median.toFixed(2)} µs/op (${front.sink.bytes} bytes, heap ${heapBefore})`,
);

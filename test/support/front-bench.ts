/**
 * What the front end costs without a socket: prepared chunks through framer, session and a device without storage into a
 * socket that drops what it is given.
 *   npx tsx test/support/front-bench.ts [--case read16] [--bytes 4096] [--depth 32] [--rounds 400]
 * Prints microseconds an operation, the least of many short rounds: the load of the machine disturbs that least.
 */
import { parseArgs } from 'node:util';
import { MIB } from '../../gateway/base/units.ts';
import { Front } from './front.ts';
import { buildCommand, cdb } from './iscsi-wire.ts';
import { NullDevice } from './null-device.ts';

/** As long as what a socket gives at once. */
const CHUNK_BYTES = 65_536;
const SECTOR = 512;
const LUN_BYTES = 1024 * MIB;

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
const front = new Front(new NullDevice({ bytes: LUN_BYTES, sectorSize: SECTOR }));
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

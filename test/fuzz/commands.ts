import type { SimRandom } from '../sim/sim-random.ts';
import { cdb } from '../support/iscsi-wire.ts';

/** A valid SCSI command, and how long what it moves is. */
export interface FuzzCommand {
  readonly cdb: Buffer;
  /** Data for the target. */
  readonly out?: Buffer;
  /** Expected data from it. */
  readonly inBytes?: number;
}

type Maker = (random: SimRandom, sectorBytes: number) => FuzzCommand;

const SECTORS = 512;

function lba(random: SimRandom): number {
  return random.chance(0.9) ? random.between(0, SECTORS - 17) : random.pick([0, 4095, 4096, 0xffff_ffff, 77]);
}

function with16(opcode: number, action: number, at: number, count: number): Buffer {
  const block = cdb(opcode, action);
  block.writeBigUInt64BE(BigInt(at), 2);
  block.writeUInt32BE(count, 10);
  return block;
}

function with10(opcode: number, flags: number, at: number, count: number): Buffer {
  const block = cdb(opcode, flags);
  block.writeUInt32BE(at, 2);
  block.writeUInt16BE(count, 7);
  return block;
}

function with12(opcode: number, flags: number, at: number, count: number): Buffer {
  const block = cdb(opcode, flags);
  block.writeUInt32BE(at, 2);
  block.writeUInt32BE(count, 6);
  return block;
}

function count(random: SimRandom): number {
  return random.pick([1, 1, 1, 1, 2, 3, 8, 8, 16, 0, 200]);
}

function read(random: SimRandom, sectorBytes: number): FuzzCommand {
  const at = lba(random);
  const sectors = count(random);
  const flags = random.pick([0, 0, 0, 0x08, 0x20]);
  const block = random.pick([
    () => cdb(0x08, (at >> 16) & 0x1f, (at >> 8) & 0xff, at & 0xff, sectors & 0xff),
    () => with10(0x28, flags, at, sectors),
    () => with12(0xa8, flags, at, sectors),
    () => with16(0x88, flags, at, sectors),
  ])();
  return { cdb: block, inBytes: sectors * sectorBytes };
}

function write(random: SimRandom, sectorBytes: number): FuzzCommand {
  const at = lba(random);
  const sectors = count(random);
  const flags = random.pick([0, 0, 0, 0x08, 0x20]);
  const block = random.pick([
    () => cdb(0x0a, (at >> 16) & 0x1f, (at >> 8) & 0xff, at & 0xff, sectors & 0xff),
    () => with10(0x2a, flags, at, sectors),
    () => with12(0xaa, flags, at, sectors),
    () => with16(0x8a, flags, at, sectors),
    () => with10(0x2e, random.pick([0, 2]), at, sectors), // WRITE AND VERIFY
    () => with16(0x8b, 0, at, sectors), // ORWRITE
    () => {
      const atomic = cdb(0x9c);
      atomic.writeBigUInt64BE(BigInt(at), 2);
      atomic.writeUInt16BE(sectors, 12);
      return atomic;
    },
  ])();
  return { cdb: block, out: Buffer.alloc(sectors * sectorBytes, random.between(0, 255)) };
}

function compareAndWrite(random: SimRandom, sectorBytes: number): FuzzCommand {
  const sectors = random.between(1, 4);
  const block = with16(0x89, 0, lba(random), 0);
  block.writeUInt8(sectors, 13);
  return { cdb: block, out: Buffer.alloc(2 * sectors * sectorBytes) };
}

function verify(random: SimRandom, sectorBytes: number): FuzzCommand {
  const check = random.pick([0, 1, 3]);
  const sectors = random.between(1, 8);
  const block = random.chance(0.5)
    ? with10(0x2f, check << 1, lba(random), sectors)
    : with16(0x8f, check << 1, lba(random), sectors);
  const bytes = check === 0 ? 0 : (check === 1 ? sectors : 1) * sectorBytes;
  return bytes === 0 ? { cdb: block } : { cdb: block, out: Buffer.alloc(bytes) };
}

function writeSame(random: SimRandom, sectorBytes: number): FuzzCommand {
  const flags = random.pick([0, 0x08, 0x08, 0x01, 0x09]);
  const sectors = random.pick([1, 8, 64, 0]);
  const block = random.chance(0.5)
    ? with16(0x93, flags, lba(random), sectors)
    : with10(0x41, flags & 0x08, lba(random), sectors);
  return (flags & 1) === 1 && block.readUInt8(0) === 0x93
    ? { cdb: block }
    : { cdb: block, out: Buffer.alloc(sectorBytes, random.between(0, 1)) };
}

function unmap(random: SimRandom): FuzzCommand {
  const ranges = random.between(0, 5);
  const list = Buffer.alloc(8 + 16 * ranges);
  list.writeUInt16BE(list.length - 2, 0);
  list.writeUInt16BE(16 * ranges, 2);
  for (let range = 0; range < ranges; range += 1) {
    list.writeBigUInt64BE(BigInt(lba(random)), 8 + 16 * range);
    list.writeUInt32BE(random.between(0, 16), 16 + 16 * range);
  }
  const block = cdb(0x42);
  block.writeUInt16BE(list.length, 7);
  return { cdb: block, out: list };
}

/** EXTENDED COPY, LID1 parameter list: two NAA descriptors and a block to block segment. */
function extendedCopy(random: SimRandom): FuzzCommand {
  const target = Buffer.alloc(32);
  target.set([0xe4, 0, 0, 0, 1, 3, 0, 16]);
  target.set([0x60], 8);
  target.write(random.pick(['plain', 'large', 'masked', 'private']), 9, 'latin1');
  target.writeUIntBE(512, 29, 3);
  const segment = Buffer.alloc(28);
  segment.set([0x02, 0, 0, 24, 0, 0, 0, random.between(0, 2), 0, 0]);
  segment.writeUInt16BE(random.between(0, 32), 10);
  segment.writeBigUInt64BE(BigInt(lba(random)), 12);
  segment.writeBigUInt64BE(BigInt(lba(random)), 20);
  const header = Buffer.alloc(16);
  header.set([random.between(0, 255), 0x20]);
  header.writeUInt16BE(64, 2);
  header.writeUInt32BE(segment.length, 8);
  const list = Buffer.concat([header, target, target, segment]);
  const block = cdb(0x83, random.pick([0, 0, 1]));
  block.writeUInt32BE(list.length, 10);
  return { cdb: block, out: list };
}

function reserveOut(random: SimRandom): FuzzCommand {
  const long = random.chance(0.1);
  const list = Buffer.alloc(long ? 60 : 24);
  list.writeUInt32BE(random.between(0, 2), 4);
  list.writeUInt32BE(random.between(0, 2), 12);
  list.writeUInt8(random.pick([0, 0, 1, 4, 8]), 20);
  const block = cdb(0x5f, random.pick([0, 6, 6, 6, 1, 2, 3, 3, 4, 5, 7]), random.pick([1, 3, 5, 6, 7, 8]));
  block.writeUInt32BE(list.length, 5);
  return { cdb: block, out: list };
}

function modeSelect(random: SimRandom): FuzzCommand {
  const page = random.pick([
    Buffer.from([0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from([0x08, 0x12, 0x04, ...new Array<number>(17).fill(0)]),
    random.bytes(random.between(0, 24)),
  ]);
  if (random.chance(0.5)) {
    const list = Buffer.concat([Buffer.alloc(4), page]);
    return { cdb: cdb(0x15, 0x10, 0, 0, list.length), out: list };
  }
  const list = Buffer.concat([Buffer.alloc(8), page]);
  return { cdb: cdb(0x55, 0x10, 0, 0, 0, 0, 0, 0, list.length), out: list };
}

const inward = (inBytes: number, ...bytes: readonly number[]): FuzzCommand => ({ cdb: cdb(...bytes), inBytes });

/** Commands with data for the initiator, and those without any. */
const PLAIN: readonly Maker[] = [
  () => ({ cdb: cdb(0) }),
  () => inward(96, 0x12, 0, 0, 0, 96),
  (random) =>
    inward(252, 0x12, 1, random.pick([0, 0x80, 0x83, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0x99]), 0, 252),
  () => inward(64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64),
  () => inward(8, 0x25),
  () => inward(32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32),
  (random) =>
    inward(
      255,
      0x1a,
      random.pick([0, 8]),
      random.pick([0x3f, 0x08, 0x0a, 0x1c]) | random.pick([0, 0x40, 0x80]),
      random.pick([0, 0xff]),
      255,
    ),
  (random) => inward(400, 0x5a, 0x10, random.pick([0x3f, 0x08, 0x0a]), 0, 0, 0, 0, 1, 144),
  (random) => inward(252, 0x03, random.pick([0, 1]), 0, 0, 252),
  (random) => inward(40, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, random.between(0, 1), random.between(0, 255), 0, 0, 0, 40),
  () => inward(1024, 0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 4, 0),
  (random) => inward(20, 0xa3, 0x0c, 1, random.between(0, 255), 0, 0, 0, 0, 0, 20),
  () => inward(16, 0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16),
  () => inward(64, 0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64),
  (random) => inward(512, 0x4d, 0, 0x40 | random.pick([0, 2, 3, 0x0c, 0x2f]), 0, 0, 0, 0, 2, 0),
  (random) => inward(255, 0x5e, random.between(0, 3), 0, 0, 0, 0, 0, 0, 255),
  (random) => inward(200, 0x84, random.between(0, 4), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200),
  () => inward(8, 0x37, 0, 0x1b, 0, 0, 0, 0, 0, 8),
  (random) => ({ cdb: cdb(0x1b, 0, 0, 0, random.chance(0.03) ? 0 : 1) }),
  () => ({ cdb: cdb(0x35) }),
  () => ({ cdb: cdb(0x91) }),
  () => ({ cdb: with10(0x34, 0, 0, 8) }),
  () => ({ cdb: with16(0x90, 0, 0, 8) }),
  (random) => ({ cdb: cdb(0x1e, 0, 0, 0, random.between(0, 1)) }),
  (random) => ({ cdb: cdb(random.chance(0.2) ? 0x16 : 0x17) }),
  (random) => ({ cdb: cdb(0x48, random.pick([3, 0x1f])) }),
];

/** Any command but those that may shut out the others. */
const MOVING: readonly Maker[] = [
  read,
  read,
  read,
  write,
  write,
  write,
  write,
  compareAndWrite,
  verify,
  writeSame,
  unmap,
  extendedCopy,
  modeSelect,
];

export function anyCommand(random: SimRandom, sectorBytes: number): FuzzCommand {
  if (random.chance(0.6)) return random.pick(MOVING)(random, sectorBytes);
  return random.pick(PLAIN)(random, sectorBytes);
}

export function reservationCommand(random: SimRandom): FuzzCommand {
  return reserveOut(random);
}

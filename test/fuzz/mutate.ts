import type { SimRandom } from '../sim/sim-random.ts';
import { crcBytes } from '../support/iscsi-wire.ts';

/** A PDU on its way: how it is, and whether anything was done to it. */
export interface Outgoing {
  bytes: Buffer;
  mutated: boolean;
  /** Digests are made over what it is, unless they are to be wrong. */
  badDigest: 'header' | 'data' | undefined;
}

const WORDS = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 0x0100_0000, 77, 512];
const TEXTS = [
  'MaxRecvDataSegmentLength=0\0',
  'MaxRecvDataSegmentLength=16777216\0',
  'MaxRecvDataSegmentLength=512\0',
  'MaxBurstLength=512\0FirstBurstLength=512\0',
  'FirstBurstLength=16777215\0MaxBurstLength=0xffffff\0',
  'HeaderDigest=CRC32C\0DataDigest=CRC32C\0',
  'HeaderDigest=None,CRC32C,None\0',
  'InitialR2T=Maybe\0ImmediateData=\0',
  'MaxConnections=65535\0ErrorRecoveryLevel=2\0',
  'SessionType=Discovery\0',
  'SessionType=Normal\0TargetName=iqn.2026-11.dev.farshore.fuzz:private\0',
  'InitiatorName=iqn.2026-11.dev.farshore.fuzz:witness\0',
  'TargetName=iqn.2026-11.dev.farshore.fuzz:private\0',
  'AuthMethod=None\0',
  'AuthMethod=CHAP,None\0',
  'CHAP_A=0\0',
  'CHAP_A=5,5,5,6,7,8,99999999999\0',
  'CHAP_N=witness-user\0CHAP_R=0x00\0',
  'CHAP_I=256\0CHAP_C=0b====\0',
  'CHAP_R=0x\0CHAP_R=0b\0',
  'SendTargets=All\0',
  'a=b',
  '=\0',
  'ÿ=\0\0\0',
  'NoKey\0',
];

/** Damages some of a valid conversation; `intensity` is about the share of it. */
export function mutate(random: SimRandom, pdus: readonly Buffer[], intensity: number): Outgoing[] {
  const items: Outgoing[] = pdus.map((bytes) => ({ bytes, mutated: false, badDigest: undefined }));
  const hits = Math.max(1, Math.round(intensity * items.length * random.fraction() * 2));
  for (let hit = 0; hit < hits && items.length > 0; hit += 1) {
    const at = random.between(0, items.length - 1);
    if (random.chance(0.3)) disorder(random, items, at);
    else damage(random, itemAt(items, at));
  }
  return items;
}

function itemAt(items: readonly Outgoing[], at: number): Outgoing {
  const item = items[at];
  if (item === undefined) throw new Error('no such PDU');
  return item;
}

/** Dropped, repeated, moved. What was repeated or moved counts as one. */
function disorder(random: SimRandom, items: Outgoing[], at: number): void {
  const item = itemAt(items, at);
  switch (random.weighted({ drop: 1, repeat: 3, flood: 2, swap: 4, move: 2 })) {
    case 'drop': {
      items.splice(at, 1);
      const neighbour = items[Math.min(at, items.length - 1)];
      if (neighbour !== undefined) neighbour.mutated = true;
      return;
    }
    case 'repeat':
      items.splice(at, 0, { ...item, mutated: true });
      return;
    case 'flood':
      for (let times = random.between(2, 24); times > 0; times -= 1) items.splice(at, 0, { ...item, mutated: true });
      return;
    case 'swap':
    case 'move': {
      items.splice(at, 1);
      item.mutated = true;
      items.splice(random.chance(0.5) ? Math.min(at + 1, items.length) : random.between(0, items.length), 0, item);
      return;
    }
  }
}

/** Changes one PDU; login requests too. */
export function damage(random: SimRandom, item: Outgoing): void {
  if (item.bytes.length < 48) return; // damaged enough
  const bytes = Buffer.from(item.bytes);
  item.bytes = bytes;
  item.mutated = true;
  const kind = random.weighted({
    bits: 5,
    byte: 4,
    word: 4,
    flags: 2,
    opcode: 1,
    cdb: 4,
    dataBytes: 4,
    dataLength: 0.6,
    resized: 2,
    text: 2,
    additional: 1,
    badDigest: 2,
    cut: 0.4,
    garbage: 0.3,
  });
  switch (kind) {
    case 'bits':
      for (let bits = random.pick([1, 1, 2, 8]); bits > 0; bits -= 1) {
        const bit = random.between(0, 48 * 8 - 1);
        // The lengths are hit on purpose only, or no conversation would go on.
        if (bit >> 3 < 4 || bit >> 3 > 7) flip(bytes, bit);
      }
      return;
    case 'byte':
      bytes.writeUInt8(
        random.pick([0, 1, 0x7f, 0x80, 0xff, random.between(0, 255)]),
        random.pick([0, 1, 2, 3, 8, 9, 10, 16, 32, 33, 40, 47]),
      );
      return;
    case 'word':
      bytes.writeUInt32BE(word(random, bytes), random.pick([8, 12, 16, 20, 24, 28, 32, 36, 40, 44]));
      return;
    case 'flags':
      bytes.writeUInt8(random.between(0, 255), 1);
      return;
    case 'opcode':
      bytes.writeUInt8(random.chance(0.5) ? random.between(0, 255) : random.pick([0, 1, 2, 3, 4, 5, 6, 0x10]), 0);
      return;
    case 'cdb':
      if (random.chance(0.4)) bytes.writeUInt8(random.between(0, 255), 32);
      bytes.writeUInt8(random.pick([0, 0xff, random.between(0, 255)]), random.between(33, 47));
      return;
    case 'dataBytes':
      for (let times = random.between(1, 8); times > 0 && bytes.length > 48; times -= 1)
        bytes.writeUInt8(
          random.pick([0, 0xff, random.between(0, 255)]),
          random.between(48, Math.min(bytes.length - 1, 48 + 256)),
        );
      return;
    case 'dataLength':
      bytes.writeUIntBE(
        random.pick([0, 1, 47, 8192, 8193, 262_144, 262_145, 0xff_ffff, random.between(0, 4096)]),
        5,
        3,
      );
      return;
    case 'resized':
      resize(random, item, random.pick([0, 1, 3, 4, 100, 512, 8192]));
      return;
    case 'text': {
      const text = random.chance(0.1)
        ? Buffer.from(`X-${'k'.repeat(random.between(1, 80))}=${'v'.repeat(random.between(0, 7000))}\0`)
        : Buffer.from(random.pick(TEXTS), 'latin1');
      const old = random.chance(0.5) ? item.bytes.subarray(48, 48 + dataLength(bytes)) : Buffer.alloc(0);
      replaceData(item, Buffer.concat(random.chance(0.5) ? [old, text] : [text, old]));
      return;
    }
    case 'additional': {
      const words = random.pick([1, 2, 5, 255]);
      const segment = random.bytes(words * 4);
      segment.writeUInt16BE(random.pick([1, 5, words * 4 - 3, 0xffff]), 0);
      segment.writeUInt8(random.pick([1, 2, 0x3f, 0xc1]), 2);
      bytes.writeUInt8(words, 4);
      item.bytes = Buffer.concat([bytes.subarray(0, 48), segment, bytes.subarray(48)]);
      return;
    }
    case 'badDigest':
      item.badDigest = random.pick(['header', 'data', 'data', 'data']);
      return;
    case 'cut':
      item.bytes = bytes.subarray(0, random.between(0, bytes.length - 1));
      return;
    case 'garbage':
      item.bytes = random.bytes(random.between(1, 300));
      return;
  }
}

function flip(bytes: Buffer, bit: number): void {
  bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
}

function word(random: SimRandom, bytes: Buffer): number {
  if (random.chance(0.3)) return random.uint32();
  if (random.chance(0.3)) return (bytes.readUInt32BE(random.pick([16, 20, 24])) + random.between(-2, 2)) >>> 0;
  return random.pick(WORDS);
}

function dataLength(bytes: Buffer): number {
  return bytes.length < 48 ? 0 : bytes.readUIntBE(5, 3);
}

function replaceData(item: Outgoing, data: Buffer): void {
  const header = Buffer.from(item.bytes.subarray(0, 48));
  header.writeUInt8(0, 4);
  header.writeUIntBE(data.length, 5, 3);
  item.bytes = Buffer.concat([header, data, Buffer.alloc(-data.length & 3)]);
}

/** Shorter or longer data, the length right. */
function resize(random: SimRandom, item: Outgoing, bytes: number): void {
  const old = item.bytes.subarray(48, 48 + dataLength(item.bytes));
  const data = Buffer.alloc(random.chance(0.5) ? bytes : Math.max(0, old.length + random.pick([-4, -1, 1, 4])));
  old.copy(data);
  replaceData(item, data);
}

/** With the digests that were agreed on, right or wrong as the PDU is to have them. */
export function digested(
  { bytes, badDigest }: Outgoing,
  digests: { readonly header: boolean; readonly data: boolean },
): Buffer {
  if ((!digests.header && !digests.data) || bytes.length < 48) return bytes;
  const headerEnd = Math.min(48 + bytes.readUInt8(4) * 4, bytes.length);
  const header = bytes.subarray(0, headerEnd);
  const data = bytes.subarray(headerEnd);
  const parts = [header];
  if (digests.header) parts.push(spoilt(crcBytes(header), badDigest === 'header'));
  parts.push(data);
  if (digests.data && data.length > 0) parts.push(spoilt(crcBytes(data), badDigest === 'data'));
  return Buffer.concat(parts);
}

function spoilt(crc: Buffer, wrong: boolean): Buffer {
  if (wrong) crc.writeUInt8(crc.readUInt8(0) ^ 0x10, 0);
  return crc;
}

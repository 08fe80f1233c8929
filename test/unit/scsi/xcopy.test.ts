import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import type { UnitNexus } from '../../../gateway/scsi/logical-unit.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';
import type { Outcome } from '../../support/scsi-bench.ts';
import { RamDevice } from '../../support/ram-device.ts';

/** A session that sees two units, and a third one that it does not. */
class CopyWorld {
  readonly bench = new ScsiBench();
  readonly second: RamDevice;
  readonly hidden = new RamDevice({ bytes: MIB, name: 'hidden' });
  readonly first: UnitNexus;
  readonly other: UnitNexus;
  seen: UnitNexus[];

  constructor(second: { readonly bytes?: number; readonly sectorSize?: 512 | 4096 } = {}) {
    this.second = new RamDevice({
      bytes: second.bytes ?? 4 * MIB,
      sectorSize: second.sectorSize ?? 512,
      name: 'second',
    });
    this.first = this.bench.nexus;
    this.other = this.bench.join(this.second);
    this.seen = [this.first, this.other];
    for (const nexus of this.seen) nexus.setNeighbours(() => this.seen);
  }

  copy(list: Buffer, life?: { state: string }): Promise<Outcome> {
    const cdb = Buffer.alloc(16);
    cdb[0] = 0x83;
    cdb.writeUInt32BE(list.length, 10);
    return this.bench.run(cdb, list, this.first, list.length, life);
  }

  results(action: number, listId: number, allocationLength = 255): Promise<Outcome> {
    const cdb = Buffer.alloc(16);
    cdb.set([0x84, action, listId]);
    cdb.writeUInt32BE(allocationLength, 10);
    return this.bench.run(cdb, undefined, this.first);
  }
}

/** E4h: by the NAA designator of a unit. */
function cscd(device: RamDevice, sectorSize: number = device.geometry().sectorSize): Buffer {
  const bytes = Buffer.alloc(32);
  bytes[0] = 0xe4;
  bytes.set([1, 3, 0, 16], 4);
  device.identity.naa.copy(bytes, 8);
  bytes.writeUIntBE(sectorSize, 29, 3);
  return bytes;
}

interface SegmentFields {
  readonly from?: number;
  readonly to?: number;
  readonly count: number;
  readonly source?: number;
  readonly destination?: number;
  readonly dc?: boolean;
}

/** 02h: block device to block device. */
function segment({ from = 0, to = 1, count, source = 0, destination = 0, dc = false }: SegmentFields): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.set([0x02, dc ? 0x02 : 0, 0, 24]);
  bytes.writeUInt16BE(from, 4);
  bytes.writeUInt16BE(to, 6);
  bytes.writeUInt16BE(count, 10);
  bytes.writeBigUInt64BE(BigInt(source), 12);
  bytes.writeBigUInt64BE(BigInt(destination), 20);
  return bytes;
}

function list(cscds: readonly Buffer[], segments: readonly Buffer[], listId = 1, usage = 0): Buffer {
  const header = Buffer.alloc(16);
  header.set([listId, usage << 3]);
  header.writeUInt16BE(Buffer.concat(cscds).length, 2);
  header.writeUInt32BE(Buffer.concat(segments).length, 8);
  return Buffer.concat([header, ...cscds, ...segments]);
}

/** Every sector says where it was. */
function stamp(device: RamDevice, bytes: number): void {
  const { sectorSize } = device.geometry();
  for (let at = 0; at < bytes; at += sectorSize) device.bytes.fill(1 + ((at / sectorSize) % 251), at, at + sectorSize);
}

describe('EXTENDED COPY', () => {
  test('copies between two units, in several segments, and tells how much', async () => {
    const world = new CopyWorld();
    stamp(world.bench.device, 3 * MIB);
    const { bytes } = world.bench.device;
    const request = list(
      [cscd(world.bench.device), cscd(world.second)],
      [
        segment({ count: 5000, destination: 8 }),
        segment({ count: 3, source: 17, destination: 7000 }),
        segment({ count: 0 }),
      ],
      9,
    );
    expect((await world.copy(request)).status).toBe(0);
    expect(world.second.bytes.subarray(8 * 512, 5008 * 512).equals(bytes.subarray(0, 5000 * 512))).toBe(true);
    expect(world.second.bytes.subarray(7000 * 512, 7003 * 512).equals(bytes.subarray(17 * 512, 20 * 512))).toBe(true);
    const status = (await world.results(0, 9)).data;
    expect([status.readUInt32BE(0), status[4], status.readUInt16BE(5), status[7], status.readUInt32BE(8)]).toEqual([
      8,
      1,
      3,
      0,
      5003 * 512,
    ]);
    expect((await world.results(0, 9)).sense).toMatchObject({ key: 5, asc: 0x24 }); // told, and so forgotten
  });

  test('onto a part of itself, either way, everything arrives', async () => {
    for (const [source, destination] of [
      [0, 100],
      [100, 0],
      [0, 2500],
    ] as const) {
      const world = new CopyWorld();
      stamp(world.bench.device, 4 * MIB);
      const before = Buffer.from(world.bench.device.bytes);
      const request = list([cscd(world.bench.device)], [segment({ to: 0, count: 5000, source, destination })]);
      expect((await world.copy(request)).status).toBe(0);
      const copied = world.bench.device.bytes.subarray(destination * 512, (destination + 5000) * 512);
      expect(copied.equals(before.subarray(source * 512, (source + 5000) * 512))).toBe(true);
    }
  });

  test('zeros take no room at the destination', async () => {
    const world = new CopyWorld();
    world.second.bytes.fill(7);
    await world.copy(list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 2048 })]));
    expect(world.second.bytes.subarray(0, MIB).every((byte) => byte === 0)).toBe(true);
    expect(world.second.provisioning(0, 2048)).toEqual({ mapped: false, sectors: 2048 });
  });

  test('between sectors of different lengths the count is of the side DC names; what does not come out even is refused', async () => {
    const world = new CopyWorld({ sectorSize: 4096 });
    stamp(world.bench.device, MIB);
    const both = [cscd(world.bench.device), cscd(world.second)];
    expect((await world.copy(list(both, [segment({ count: 16 })]))).status).toBe(0);
    expect(world.second.bytes.subarray(0, 8192).equals(world.bench.device.bytes.subarray(0, 8192))).toBe(true);
    expect((await world.copy(list(both, [segment({ count: 3, destination: 4, dc: true })]))).status).toBe(0);
    expect(world.second.bytes.subarray(4 * 4096, 7 * 4096).equals(world.bench.device.bytes.subarray(0, 3 * 4096))).toBe(
      true,
    );
    expect((await world.copy(list(both, [segment({ count: 9 })]))).sense).toMatchObject({
      key: 0x0a,
      asc: 0x26,
      ascq: 0x0a,
    });
  });

  test('reaches no unit that the initiator does not see, and writes none that it may only read', async () => {
    const world = new CopyWorld();
    stamp(world.bench.device, MIB);
    const unreachable = { key: 0x0a, asc: 0x0d, ascq: 2 };
    const both = [cscd(world.bench.device), cscd(world.second)];
    const hidden = await world.copy(list([cscd(world.bench.device), cscd(world.hidden)], [segment({ count: 8 })]));
    expect(hidden.sense).toMatchObject(unreachable);
    expect((await world.copy(list(both, [segment({ to: 2, count: 8 })]))).sense).toMatchObject(unreachable);
    world.other.setReadOnly(true);
    expect((await world.copy(list(both, [segment({ count: 8 })]))).sense).toMatchObject({
      key: 0x0a,
      asc: 0x0d,
      ascq: 1,
    });
    world.seen = [world.first];
    expect((await world.copy(list(both, [segment({ count: 8 })]))).sense).toMatchObject(unreachable);
    expect(world.second.bytes.every((byte) => byte === 0)).toBe(true);
    expect(world.hidden.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('a mapping that is taken away while it copies ends it at the next piece', async () => {
    const world = new CopyWorld();
    stamp(world.bench.device, 4 * MIB);
    let writes = 0;
    world.second.intercept = (operation) => {
      if (operation !== 'write') return;
      writes += 1;
      if (writes === 2) world.seen = [world.first];
    };
    const request = list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 8192 })], 3);
    expect((await world.copy(request)).sense).toMatchObject({ key: 0x0a, asc: 0x0d, ascq: 2 });
    expect(writes).toBe(2);
    const details = (await world.results(4, 3)).data;
    expect([details.readUInt32BE(0), details[56], details.readUInt16BE(58), details[60 + 2]]).toEqual([
      74, 2, 18, 0x0a,
    ]);
  });

  test('a piece that waits for its turn is not written when nobody may write any more by then', async () => {
    const world = new CopyWorld();
    world.bench.device.bytes.fill(5);
    let open = (): void => undefined;
    const closed = new Promise<void>((resolve) => {
      open = resolve;
    });
    let isHeld = true;
    world.second.intercept = (operation) => {
      if (operation !== 'write' || !isHeld) return undefined;
      isHeld = false;
      return closed;
    };
    const write = world.bench.run('2a 00 00 00 00 40 00 00 01 00', Buffer.alloc(512, 1), world.other);
    const copied = world.copy(list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 8 })]));
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    const protect = Buffer.from('00 00 00 00 0a 0a 00 10 08 00 00 00 00 00 00 00'.replaceAll(' ', ''), 'hex');
    expect((await world.bench.run('15 10 00 00 10 00', protect, world.other)).status).toBe(0);
    open();
    expect((await write).status).toBe(0);
    expect((await copied).sense).toMatchObject({ key: 0x0a });
    expect(world.second.bytes[0]).toBe(0);
  });

  test.each([
    ['the same blocks', 0, 0],
    ['blocks that overlap', 4, 0],
    ['blocks beside them', 8, 0],
  ] as const)('onto %s, what is written there meanwhile is not undone', async (_name, from, to) => {
    const world = new CopyWorld();
    const { device } = world.bench;
    device.bytes.fill(1, 0, 64 * KIB);
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let entered = (): void => undefined;
    const inside = new Promise<void>((resolve) => {
      entered = resolve;
    });
    // It answers with what was there when it was asked, a while later.
    device.read = async (lba, sectors) => {
      const seen = Buffer.from(device.bytes.subarray(lba * 512, (lba + sectors) * 512));
      entered();
      await gate;
      return [seen];
    };
    const request = list([cscd(device)], [segment({ from: 0, to: 0, count: 8, source: from, destination: to })]);
    const copying = world.copy(request);
    await inside;
    const writing = world.bench.run('2a 00 00 00 00 00 00 00 08 00', Buffer.alloc(8 * 512, 2));
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    open();
    expect([(await copying).status, (await writing).status]).toEqual([0, 0]);
    // The copy came first, then the write: or, what is the same here, the copy has seen it.
    expect(device.bytes.subarray(0, 8 * 512).equals(Buffer.alloc(8 * 512, 2))).toBe(true);
  });

  test('copies to and fro between the same blocks all come to an end', async () => {
    const world = new CopyWorld();
    const { device } = world.bench;
    stamp(device, 64 * KIB);
    stamp(world.second, 64 * KIB);
    for (const one of [device, world.second]) one.intercept = () => new Promise((resolve) => setImmediate(resolve));
    let listId = 0;
    const copy = (from: number, to: number, source: number, destination: number): Promise<Outcome> => {
      listId += 1;
      const cscds = [cscd(device), cscd(world.second)];
      return world.copy(list(cscds, [segment({ from, to, count: 8, source, destination })], listId));
    };
    const swap = Buffer.from('89000000000000000004000000010000', 'hex');
    const outcomes = await Promise.all([
      copy(0, 0, 0, 4),
      copy(0, 1, 4, 4),
      copy(0, 0, 4, 0),
      copy(1, 0, 4, 4),
      world.bench.run(swap, Buffer.alloc(1024)),
      copy(1, 1, 0, 4),
      copy(1, 1, 4, 0),
    ]);
    for (const [index, { status }] of outcomes.entries()) expect(status).toBe(index === 4 ? 2 : 0);
  });

  test('an abort ends it at the next piece', async () => {
    const world = new CopyWorld();
    stamp(world.bench.device, 4 * MIB);
    const life = { state: 'executing' };
    let writes = 0;
    world.second.intercept = () => {
      writes += 1;
      life.state = 'aborted';
    };
    await world.copy(list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 8192 })]), life);
    expect(writes).toBe(1);
  });

  test('a device that fails is told of as a third party', async () => {
    const world = new CopyWorld();
    world.bench.device.intercept = () => {
      throw new FarshoreError('damaged', 'a block is damaged');
    };
    const request = list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 8 })]);
    expect((await world.copy(request)).sense).toMatchObject({ key: 0x0a, asc: 0x0d, ascq: 1 });
  });

  test('a list identifier that is in use, and a copy too many, are refused', async () => {
    const world = new CopyWorld();
    stamp(world.bench.device, MIB);
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    world.second.intercept = () => gate;
    const request = (listId: number): Buffer =>
      list([cscd(world.bench.device), cscd(world.second)], [segment({ count: 8 })], listId);
    const running = Array.from({ length: 16 }, (_, listId) => world.copy(request(listId)));
    expect((await world.copy(request(5))).sense).toMatchObject({ key: 5, asc: 0, ascq: 0x16 });
    expect((await world.copy(request(99))).status).toBe(0x08);
    expect((await world.results(0, 5)).data[4]).toBe(0);
    open();
    for (const outcome of await Promise.all(running)) expect(outcome.status).toBe(0);
  });

  const both = (world: CopyWorld): Buffer[] => [cscd(world.bench.device), cscd(world.second)];
  test.each<[string, (world: CopyWorld) => Buffer, object]>([
    ['less than a header', () => Buffer.alloc(15), { asc: 0x1a }],
    ['lists longer than the data', (w) => list(both(w), [segment({ count: 1 })]).subarray(0, 90), { asc: 0x1a }],
    ['too many CSCD descriptors', (w) => list(new Array<Buffer>(17).fill(cscd(w.second)), []), { asc: 0x26, ascq: 6 }],
    [
      'too many segments',
      (w) => list(both(w), new Array<Buffer>(65).fill(segment({ count: 1 }))),
      { asc: 0x26, ascq: 8 },
    ],
    ['an unknown CSCD type', (w) => list([Buffer.alloc(32, 0xe0), cscd(w.second)], []), { asc: 0x26, ascq: 7 }],
    ['an unknown segment type', (w) => list(both(w), [Buffer.alloc(28, 0x03)]), { asc: 0x26, ascq: 9 }],
    ['a reserved list id usage', (w) => list(both(w), [], 0, 1), { asc: 0x26, ascq: 0 }],
    ['a list id where there is none', (w) => list(both(w), [], 1, 3), { asc: 0x26, ascq: 0 }],
    [
      'the end of the source',
      (w) => list(both(w), [segment({ count: 2, source: 8191 })]),
      { key: 0x0a, asc: 0, ascq: 0, field: { inCdb: false, byte: 12, segment: 0 } },
    ],
    [
      'the end of the destination',
      (w) => list(both(w), [segment({ count: 0 }), segment({ count: 2, destination: 8191 })]),
      { key: 0x0a, asc: 0, ascq: 0, field: { inCdb: false, byte: 20, segment: 1 } },
    ],
    [
      'another block length',
      (w) => list([cscd(w.bench.device, 4096), cscd(w.second)], [segment({ count: 8 })]),
      { asc: 0x0d },
    ],
  ])('%s is refused', async (_name, make, sense) => {
    const world = new CopyWorld();
    stamp(world.bench.device, 64 * KIB);
    expect((await world.copy(make(world))).sense).toMatchObject(sense);
    expect(world.second.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('nothing to copy is no error', async () => {
    expect((await new CopyWorld().copy(Buffer.alloc(0))).status).toBe(0);
    expect((await new CopyWorld().copy(list([], []))).status).toBe(0);
  });
});

test('OPERATING PARAMETERS and VPD page 8Fh agree on the limits', async () => {
  const world = new CopyWorld();
  const parameters = (await world.results(3, 0)).data;
  expect(parameters.length).toBe(parameters.readUInt32BE(0) + 4);
  expect([...parameters.subarray(parameters.length - 3)]).toEqual([2, 0x02, 0xe4]);
  const page = (await world.bench.run('12 01 8f 00 ff 00', undefined, world.first)).data;
  const descriptors = new Map<number, Buffer>();
  for (let at = 4; at < page.length; at += 4 + page.readUInt16BE(at + 2)) {
    descriptors.set(page.readUInt16BE(at), page.subarray(at + 4, at + 4 + page.readUInt16BE(at + 2)));
  }
  expect([...descriptors.keys()]).toEqual([0x0001, 0x0004, 0x0008, 0x000c, 0x8001]);
  expect(descriptors.get(0x0004)?.subarray(4, 12)).toEqual(parameters.subarray(8, 16));
  expect(descriptors.get(0x8001)?.readUInt32BE(8)).toBe(parameters.readUInt32BE(16));
  expect((await world.results(0, 77)).sense).toMatchObject({ key: 5, asc: 0x24 });
});

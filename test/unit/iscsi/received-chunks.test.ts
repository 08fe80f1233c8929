import { afterEach, describe, expect, test } from 'vitest';
import type { MaybePromise } from '../../../gateway/base/block-device.ts';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import { ByteBudget } from '../../../gateway/iscsi/budget.ts';
import { ReceivedChunks } from '../../../gateway/iscsi/received-chunks.ts';
import { KIND, buildCommand, buildDataOut, buildRequest, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld, gate } from '../../support/iscsi-world.ts';
import { RamDevice } from '../../support/ram-device.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

let world: IscsiWorld | undefined;
let device: SlowDevice | undefined;
afterEach(async () => {
  device?.gate.open();
  await world?.stop();
  expect(world?.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

/** Keeps every write until it is let go, with what it was given. */
class SlowDevice extends RamDevice {
  readonly held: Buffer[] = [];
  readonly gate = gate();
  override gathersWrites = false;

  override write(lba: number, data: readonly Buffer[], options: { readonly fua: boolean }): MaybePromise<void> {
    this.held.push(...data);
    return this.gate.opened.then(() => super.write(lba, data, options));
  }

  /** Bytes of memory that cannot be freed while these writes are under way. */
  get heldBytes(): number {
    let bytes = 0;
    for (const memory of new Set(this.held.map((data) => data.buffer))) bytes += memory.byteLength;
    return bytes;
  }
}

/** Makes a received chunk large, and is not answered. */
function padding(cmdSn: number): Buffer {
  const data = Buffer.alloc(56 * KIB);
  return buildRequest({ opcode: 0, immediate: true, itt: 0xffff_ffff, word20: 0xffff_ffff, cmdSn, data });
}

const BUDGET = MIB;
const SESSIONS = 4;
const DEPTH = 32;

test.each(['immediate', 'solicited'] as const)(
  'many sessions with many tiny writes of %s data hold no more memory than the budget says',
  async (kind) => {
    const slow = new SlowDevice({ bytes: MIB });
    device = slow;
    world = await IscsiWorld.start({
      luns: new Map([[0, slow]]),
      settings: { queueDepth: DEPTH, writeBytesInFlight: BUDGET },
    });
    const w = world;
    for (let session = 0; session < SESSIONS; session += 1) {
      const isid = `00023d0000${session.toString(16).padStart(2, '0')}`;
      const initiator = await w.ready({ isid, keys: { ImmediateData: kind === 'immediate' ? 'Yes' : 'No' } });
      for (let index = 0; index < DEPTH; index += 1) {
        const request = { cdb: write10(index, 1), write: true, expectedBytes: 512, itt: 500 + index };
        const cmdSn = initiator.cmdSn++;
        const data = Buffer.alloc(512, index);
        if (kind === 'immediate') {
          initiator.send(buildCommand({ ...request, cmdSn, data }), padding(cmdSn + 1));
        } else {
          initiator.send(buildCommand({ ...request, cmdSn }));
          const { itt, word20: ttt } = await initiator.expect(KIND.r2t);
          initiator.send(buildDataOut({ itt, ttt, dataSn: 0, offset: 0, data }), padding(cmdSn + 1));
        }
      }
      const ping = { opcode: 0, immediate: true, itt: 7, word20: 0xffff_ffff, cmdSn: initiator.cmdSn };
      initiator.send(buildRequest(ping));
      await initiator.expect(KIND.nopIn); // all has been read
    }
    expect(slow.held.length).toBe(SESSIONS * DEPTH);
    expect(slow.heldBytes).toBeLessThanOrEqual(BUDGET);
    expect(slow.heldBytes).toBeLessThanOrEqual(w.server.usage().writeBytes);
  },
);

test('a chunk counts once, as long as anything in it is in use', () => {
  const budget = new ByteBudget(1000);
  const chunks = new ReceivedChunks(budget.shareOf('192.0.2.1', 'host'));
  const chunk = Buffer.allocUnsafeSlow(200);
  const parts = [chunk.subarray(0, 10), chunk.subarray(50, 60)];
  expect(parts.map((part) => chunks.hold(part))).toEqual([true, true]);
  expect(budget.usedBytes).toBe(200);
  for (const part of parts) {
    expect(budget.usedBytes).toBe(200);
    chunks.release(part);
  }
  expect(budget.usedBytes).toBe(0);
});

test('only memory to spare is spent on leaving data where it came, and what fills its memory costs none', () => {
  const budget = new ByteBudget(1000);
  const chunks = new ReceivedChunks(budget.shareOf('192.0.2.1', 'host'));
  expect(chunks.hold(Buffer.allocUnsafeSlow(251).subarray(1))).toBe(false);
  expect(chunks.hold(Buffer.allocUnsafeSlow(2000))).toBe(true);
  expect(budget.usedBytes).toBe(0);
});

describe('what lies in a chunk stays as it was while it is needed, however much is received meanwhile', () => {
  /** More than any chunk holds, in pieces that each fill some of it. */
  async function receiveMuch(initiator: RawInitiator): Promise<void> {
    for (let count = 0; count < 20; count += 1) initiator.send(padding(initiator.cmdSn));
    const ping = { opcode: 0, immediate: true, itt: 7, word20: 0xffff_ffff, cmdSn: initiator.cmdSn };
    initiator.send(buildRequest(ping));
    await initiator.expect(KIND.nopIn);
  }

  function writeOf(initiator: RawInitiator, byte: number): Buffer {
    const data = Buffer.alloc(4096, byte);
    const cmdSn = initiator.cmdSn++;
    return buildCommand({ cdb: write10(byte, 8), write: true, expectedBytes: 4096, itt: 500 + byte, cmdSn, data });
  }

  test('by a device that keeps a write for a while', async () => {
    const slow = new SlowDevice({ bytes: MIB });
    device = slow;
    world = await IscsiWorld.start({ luns: new Map([[0, slow]]) });
    const initiator = await world.ready();
    for (let byte = 1; byte <= 8; byte += 1) initiator.send(writeOf(initiator, byte));
    await receiveMuch(initiator);
    expect(slow.held.map((data) => data.equals(Buffer.alloc(4096, data[0])))).toEqual(Array(8).fill(true));
    expect(slow.held.map((data) => data[0])).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('by writes that are longer than a chunk, one behind the other', async () => {
    const ram = new RamDevice({ bytes: 8 * MIB });
    world = await IscsiWorld.start({ luns: new Map([[0, ram]]) });
    const initiator = await world.ready({ keys: { FirstBurstLength: String(256 * KIB) } });
    const bytes = 256 * KIB;
    const count = 24;
    for (let at = 0; at < count; at += 1) {
      const cdb = write10((at * bytes) / 512, bytes / 512);
      const data = Buffer.alloc(bytes, at + 1);
      const cmdSn = initiator.cmdSn++;
      initiator.send(buildCommand({ cdb, write: true, expectedBytes: bytes, itt: 500 + at, cmdSn, data }));
    }
    for (let at = 0; at < count; at += 1) await initiator.expect(KIND.scsiResponse);
    const wrong = Array.from({ length: count }, (_, at) => at).filter(
      (at) => !ram.bytes.subarray(at * bytes, (at + 1) * bytes).equals(Buffer.alloc(bytes, at + 1)),
    );
    expect(wrong).toEqual([]);
    expect(ram.gathered).toBe(count);
  });

  test('by a device that has gathered writes and needs longer to log them', async () => {
    const seen: Buffer[] = [];
    const logged = gate();
    const gathering = new (class extends RamDevice {
      override gatherWrite(_lba: number, data: Buffer): boolean {
        if (seen.length === 4) return false;
        seen.push(data);
        return true;
      }
    })({ bytes: MIB });
    gathering.logging = () => logged.opened;
    world = await IscsiWorld.start({ luns: new Map([[0, gathering]]) });
    const initiator = await world.ready();
    for (let byte = 1; byte <= 4; byte += 1) initiator.send(writeOf(initiator, byte));
    await receiveMuch(initiator);
    expect(seen.map((data) => data.equals(Buffer.alloc(4096, data[0])))).toEqual(Array(4).fill(true));
    expect(seen.map((data) => data[0])).toEqual([1, 2, 3, 4]);
    logged.open();
  });
});

import { afterEach, describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../../gateway/base/units.ts';
import type { IscsiSettings } from '../../../gateway/iscsi/settings.ts';
import { KIND, buildCommand, buildDataOut, buildRequest, cdb, write10 } from '../../support/iscsi-wire.ts';
import { IscsiWorld } from '../../support/iscsi-world.ts';
import type { RawInitiator } from '../../support/raw-initiator.ts';

/** What a peer that always sends a little may not hold for ever. */

const SOLICITED = { keys: { ImmediateData: 'No', MaxBurstLength: String(MIB) } };

let world: IscsiWorld | undefined;
afterEach(async () => {
  await world?.stop();
  expect(world?.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

async function start(settings: Partial<IscsiSettings>): Promise<IscsiWorld> {
  world = await IscsiWorld.start({ settings });
  return world;
}

/** Asks for an R2T; how to send so many bytes of its data. */
async function write(initiator: RawInitiator, bytes: number): Promise<(count: number) => void> {
  const itt = initiator.command({ cdb: write10(0, bytes / 512), write: true, expectedBytes: bytes });
  const { word20: ttt } = await initiator.expect(KIND.r2t);
  let dataSn = 0;
  let offset = 0;
  return (count) => {
    const final = offset + count === bytes;
    initiator.send(buildDataOut({ itt, ttt, dataSn, offset, data: Buffer.alloc(count), final }));
    dataSn += 1;
    offset += count;
  };
}

/** Whether the target still answers after `seconds`, in each of which the peer does something. */
async function survives(
  w: IscsiWorld,
  initiator: RawInitiator,
  seconds: number,
  act: (second: number) => void,
): Promise<boolean> {
  for (let second = 0; second < seconds; second += 1) {
    act(second);
    initiator.send(buildRequest({ opcode: 0, itt: 7, immediate: true, word20: 0xffff_ffff, cmdSn: initiator.cmdSn }));
    if ((await initiator.receive()) === undefined) return false; // it has been read
    w.clock.advance(1000);
  }
  return w.server.usage().connections > 0;
}

describe('the data of a write', () => {
  test('does not come any sooner for what comes of another one', async () => {
    const w = await start({ dataTimeoutSeconds: 5 });
    const initiator = await w.ready(SOLICITED);
    await write(initiator, MIB);
    const trickle = await write(initiator, MIB);
    expect(
      await survives(w, initiator, 6, () => {
        trickle(1);
      }),
    ).toBe(false);
    await initiator.closed();
  });

  test('must come at a rate, not just now and then', async () => {
    const w = await start({ dataTimeoutSeconds: 5 });
    const initiator = await w.ready(SOLICITED);
    const trickle = await write(initiator, 64 * KIB); // 5 seconds, and one for its length
    const act = (): void => {
      trickle(1);
    };
    expect(await survives(w, initiator, 6, act)).toBe(true);
    expect(await survives(w, initiator, 1, act)).toBe(false);
    await initiator.closed();
  });

  test('may come slowly', async () => {
    const w = await start({ dataTimeoutSeconds: 5 });
    const initiator = await w.ready(SOLICITED);
    const send = await write(initiator, MIB);
    const act = (): void => {
      send(64 * KIB);
    };
    expect(await survives(w, initiator, 15, act)).toBe(true);
    act();
    expect((await initiator.expect(KIND.scsiResponse)).byte3).toBe(0);
  });
});

test('a PDU that is begun must come to an end, however steadily it grows', async () => {
  const w = await start({ dataTimeoutSeconds: 5 });
  const initiator = await w.ready();
  const bytes = buildCommand({
    cdb: write10(0, 512),
    write: true,
    expectedBytes: 256 * KIB,
    data: Buffer.alloc(256 * KIB),
    itt: 900,
    cmdSn: initiator.cmdSn,
  });
  const other = await w.ready({ isid: '00023d000002' });
  initiator.socket.write(bytes.subarray(0, 100));
  for (let second = 0; second < 7; second += 1) {
    initiator.socket.write(bytes.subarray(100 + second, 101 + second));
    await other.run({ cdb: cdb(0) });
    w.clock.advance(1000);
  }
  await initiator.closed();
  expect(other.isClosed).toBe(false);
});

test('what was sent ahead is not kept for ever by mending one gap after the other', async () => {
  const w = await start({ dataTimeoutSeconds: 5 });
  const initiator = await w.ready();
  const first = initiator.cmdSn;
  const send = (cmdSn: number): void => {
    initiator.send(buildCommand({ cdb: cdb(0), itt: cmdSn + 1000, cmdSn }));
  };
  const ping = async (): Promise<void> => {
    initiator.send(buildRequest({ opcode: 0, itt: 7, immediate: true, word20: 0xffff_ffff, cmdSn: first }));
    for (;;) if ((await initiator.receive())?.opcode !== KIND.scsiResponse) return;
  };
  for (let gap = 1; gap <= 15; gap += 2) send(first + gap);
  await ping();
  for (let second = 0; second < 7; second += 1) {
    w.clock.advance(1000);
    if (w.server.usage().connections === 0) break;
    send(first + 2 * second);
    await ping();
  }
  await initiator.closed();
});

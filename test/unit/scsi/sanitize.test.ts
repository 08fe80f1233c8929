import { describe, expect, test } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { MIB } from '../../../gateway/base/units.ts';
import { encodeSense } from '../../../gateway/scsi/sense.ts';
import type { UnitStateStore } from '../../../gateway/scsi/unit-state.ts';
import { ScsiBench } from '../../support/scsi-bench.ts';

const BLOCK_ERASE = '48 02 00 00 00 00 00 00 00 00';
const BLOCK_ERASE_LATER = '48 82 00 00 00 00 00 00 00 00';
const CRYPTOGRAPHIC_ERASE = '48 03 00 00 00 00 00 00 00 00';
const EXIT_FAILURE_MODE = '48 1f 00 00 00 00 00 00 00 00';
const READ = '28 00 00 00 00 00 00 00 01 00';
const WRITE = '2a 00 00 00 00 00 00 00 01 00';
const TEST_UNIT_READY = '00 00 00 00 00 00';
const IN_PROGRESS = { key: 2, asc: 0x04, ascq: 0x1b };
const FAILED = { key: 3, asc: 0x31, ascq: 0x03 };

const overwrite = (list: Buffer, flags = 0): string =>
  `48 ${(0x01 | flags).toString(16).padStart(2, '0')} 00 00 00 00 00 ${list.length.toString(16).padStart(4, '0')} 00`;
const pattern = (passes: number, bytes: Buffer, invert = false): Buffer =>
  Buffer.concat([Buffer.from([passes | (invert ? 0x80 : 0), 0, bytes.length >> 8, bytes.length & 0xff]), bytes]);

class MemoryState implements UnitStateStore {
  document: string | undefined;
  fails = false;
  /** Where a successor looks: it may be out of reach. */
  elsewhere: Promise<void> = Promise.resolve();

  mirrored(): Promise<void> {
    return this.elsewhere;
  }

  load(): string | undefined {
    return this.document;
  }

  save(document: string): Promise<void> {
    if (this.fails) return Promise.reject(new FarshoreError('retry', 'the table is out of reach'));
    this.document = document;
    return Promise.resolve();
  }

  get sanitize(): unknown {
    return this.document === undefined ? undefined : (JSON.parse(this.document) as Record<string, unknown>)['sanitize'];
  }
}

/** The place where a successor looks is out of reach until the answer is resolved. */
function away(state: MemoryState): { resolve: () => void; reject: (error: FarshoreError) => void } {
  let settle: ReturnType<typeof away> = { resolve: () => undefined, reject: () => undefined };
  state.elsewhere = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  return settle;
}

/** Holds the device's calls of a kind until it is opened. */
function gate(bench: ScsiBench, held: string): () => void {
  let open = (): void => undefined;
  const closed = new Promise<void>((resolve) => {
    open = resolve;
  });
  bench.device.intercept = (operation) => (operation === held ? closed : undefined);
  return open;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

describe('SANITIZE', () => {
  test.each([BLOCK_ERASE, CRYPTOGRAPHIC_ERASE])(
    '%s leaves zeros and nothing mapped, on stable storage',
    async (cdb) => {
      const bench = new ScsiBench({ state: new MemoryState() });
      await bench.run('2a 00 00 00 00 00 00 1f ff 00', Buffer.alloc(0x1fff * 512, 1));
      expect((await bench.run(cdb)).status).toBe(0);
      expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
      expect(bench.device.provisioning(0, 8192)).toEqual({ mapped: false, sectors: 8192 });
      expect(bench.device.flushes).toBeGreaterThan(0);
      expect((await bench.run(READ)).status).toBe(0);
    },
  );

  test('OVERWRITE writes the pattern, repeated and cut at the end of each block; INVERT turns every second pass around', async () => {
    const bench = new ScsiBench({ state: new MemoryState() });
    const odd = pattern(1, Buffer.from([1, 2, 3]));
    expect((await bench.run(overwrite(odd), odd)).status).toBe(0);
    const block = Buffer.alloc(512, Buffer.from([1, 2, 3]));
    for (const lba of [0, 1, 4000, 8191]) {
      expect(bench.device.bytes.subarray(lba * 512, (lba + 1) * 512).equals(block)).toBe(true);
    }
    const twice = pattern(2, Buffer.from([0x0f]), true);
    expect((await bench.run(overwrite(twice), twice)).status).toBe(0);
    expect(bench.device.bytes.every((byte) => byte === 0xf0)).toBe(true);
  });

  test.each<[string, string, Buffer]>([
    ['no parameters', '48 01 00 00 00 00 00 00 00 00', Buffer.alloc(0)],
    ['a header only', overwrite(Buffer.alloc(4)), Buffer.alloc(4)],
    ['more than a block', overwrite(Buffer.alloc(517)), Buffer.alloc(517)],
    ['no pass', overwrite(pattern(0, Buffer.alloc(8))), pattern(0, Buffer.alloc(8))],
    ['no pattern', overwrite(Buffer.from([1, 0, 0, 0, 9])), Buffer.from([1, 0, 0, 0, 9])],
    ['a pattern that is cut off', overwrite(Buffer.from([1, 0, 0, 2, 9])), Buffer.from([1, 0, 0, 2, 9])],
    ['parameters of an erase', '48 02 00 00 00 00 00 00 08 00', Buffer.alloc(8)],
    ['a reserved bit', '48 42 00 00 00 00 00 00 00 00', Buffer.alloc(0)],
    ['a reserved byte', '48 02 00 00 01 00 00 00 00 00', Buffer.alloc(0)],
    ['an unknown service action', '48 04 00 00 00 00 00 00 00 00', Buffer.alloc(0)],
  ])('%s is refused, and nothing is erased', async (_name, cdb, data) => {
    const bench = new ScsiBench({ state: new MemoryState() });
    await bench.run(WRITE, Buffer.alloc(512, 1));
    const { sense } = await bench.run(cdb, data);
    expect(sense?.key).toBe(5);
    expect([0x24, 0x26]).toContain(sense?.asc);
    expect(bench.device.bytes[0]).toBe(1);
    expect((await bench.run(READ)).status).toBe(0);
  });

  test('with IMMED it is answered when it is sure to go on; until it has ended everybody is told, with how far it is', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    const other = bench.join();
    await bench.run(WRITE, Buffer.alloc(512, 1));
    const list = pattern(2, Buffer.from([7]));
    let held = 0;
    let open = (): void => undefined;
    const closed = new Promise<void>((resolve) => {
      open = resolve;
    });
    bench.device.intercept = (operation) => {
      if (operation !== 'write') return undefined;
      held += 1;
      return held === 5 ? closed : undefined; // 4 MiB are four writes a pass
    };
    expect((await bench.run(overwrite(list, 0x80), list)).status).toBe(0);
    expect(state.sanitize).toMatchObject({ method: 'overwrite', state: 'running' });
    await until(() => held === 5);
    for (const cdb of [TEST_UNIT_READY, READ, '1b 00 00 00 01 00', BLOCK_ERASE]) {
      expect((await bench.run(cdb, undefined, other)).sense).toMatchObject(IN_PROGRESS);
    }
    expect((await bench.run(WRITE, Buffer.alloc(512), other)).sense).toMatchObject(IN_PROGRESS);
    expect((await bench.run('12 00 00 00 60 00')).status).toBe(0);
    const sense = (await bench.run('03 00 00 00 ff 00')).data;
    expect([sense[2], sense[12], sense[13], sense[15], sense.readUInt16BE(16)]).toEqual([2, 4, 0x1b, 0x80, 0x8000]);
    const told = (await bench.run(TEST_UNIT_READY)).sense;
    expect(told && encodeSense(told).readUInt16BE(16)).toBe(0x8000);
    open();
    await until(async () => (await bench.run(TEST_UNIT_READY)).status === 0);
    expect(bench.device.bytes.every((byte) => byte === 7)).toBe(true);
    expect(state.sanitize).toBeUndefined();
  });

  test('what is in the device ends first, and what waited for its turn is not let near what has been sanitized', async () => {
    const bench = new ScsiBench({ state: new MemoryState() });
    let open = (): void => undefined;
    const closed = new Promise<void>((resolve) => {
      open = resolve;
    });
    let writes = 0;
    bench.device.intercept = (operation) => {
      if (operation !== 'write') return undefined;
      writes += 1;
      return writes === 1 ? closed : undefined;
    };
    const before = bench.run(WRITE, Buffer.alloc(512, 1));
    const waiting = bench.run('9c 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00', Buffer.alloc(512, 2));
    const erase = bench.run(BLOCK_ERASE);
    const after = bench.run('9c 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00', Buffer.alloc(512, 3));
    open();
    expect((await before).status).toBe(0);
    expect((await waiting).sense).toMatchObject(IN_PROGRESS);
    expect((await after).sense).toMatchObject(IN_PROGRESS);
    expect((await erase).status).toBe(0);
    expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('neither an abort nor a reset ends it; the aborted command is let go', async () => {
    const bench = new ScsiBench({ state: new MemoryState() });
    bench.device.bytes.fill(1);
    const list = pattern(1, Buffer.from([7]));
    const life = { state: 'executing' };
    const open = gate(bench, 'write');
    const command = bench.run(overwrite(list), list, bench.nexus, list.length, life);
    await until(async () => (await bench.run(TEST_UNIT_READY)).status !== 0);
    life.state = 'aborted';
    bench.nexus.unit.reset();
    open();
    await command;
    bench.nexus.takeAttention();
    await until(async () => (await bench.run(TEST_UNIT_READY)).status === 0);
    expect(bench.device.bytes.every((byte) => byte === 7)).toBe(true);
  });

  test('it goes on after a restart, also when that comes between its end and the note of it', async () => {
    const state = new MemoryState();
    const first = new ScsiBench({ state });
    const open = gate(first, 'unmap');
    expect((await first.run(BLOCK_ERASE_LATER)).status).toBe(0);
    const kept = state.document;
    // The process is gone; another one finds what was kept, and the medium as it was.
    const again = new MemoryState();
    again.document = kept;
    const second = new ScsiBench({ state: again });
    second.device.bytes.fill(1);
    await until(async () => (await second.run(TEST_UNIT_READY)).status === 0);
    expect(second.device.bytes.every((byte) => byte === 0)).toBe(true);
    expect(again.sanitize).toBeUndefined();
    open();
  });

  test('what was done on a device that has lost it since is done again', async () => {
    const state = new MemoryState();
    const first = new ScsiBench({ state });
    const open = gate(first, 'write');
    const list = pattern(1, Buffer.from([7]));
    expect((await first.run(overwrite(list, 0x80), list)).status).toBe(0);
    const document = JSON.parse(state.document ?? '') as { sanitize: object };
    for (const [history, begins] of [
      [undefined, 1],
      ['that of the gateway that is gone', 7],
    ] as const) {
      const again = new MemoryState();
      again.document = JSON.stringify({ ...document, sanitize: { ...document.sanitize, lba: 4096, history } });
      const second = new ScsiBench({ state: again });
      second.device.bytes.fill(1);
      await until(async () => (await second.run(TEST_UNIT_READY)).status === 0);
      expect([second.device.bytes[0], second.device.bytes.at(-1)]).toEqual([begins, 7]);
    }
    open();
  });

  test('where it cannot be kept it is not begun', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    await bench.run(WRITE, Buffer.alloc(512, 1));
    state.fails = true;
    expect((await bench.run(BLOCK_ERASE_LATER)).sense).toMatchObject({ key: 2, asc: 4, ascq: 1 });
    expect((await bench.run(READ)).status).toBe(0);
    expect(bench.device.bytes[0]).toBe(1);
  });

  test('a device that is busy for a while is waited for', async () => {
    const bench = new ScsiBench({ state: new MemoryState() });
    bench.device.bytes.fill(1);
    let tries = 0;
    bench.device.intercept = (operation) => {
      if (operation === 'unmap' && (tries += 1) < 5) throw new FarshoreError('busy', 'the cache is full');
    };
    expect((await bench.run(BLOCK_ERASE)).status).toBe(0);
    expect(tries).toBe(5);
    expect(bench.device.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('a failure is shown until it is excused, which only AUSE allows, or another one succeeds', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    let isBroken = true;
    bench.device.intercept = (operation) => {
      if (isBroken && operation === 'unmap') throw new FarshoreError('damaged', 'something is wrong');
    };
    expect((await bench.run(BLOCK_ERASE)).sense).toMatchObject(FAILED);
    expect((await bench.run(READ)).sense).toMatchObject(FAILED);
    expect((await bench.run(EXIT_FAILURE_MODE)).sense).toMatchObject({ key: 5, asc: 0x24 });
    expect((await bench.run('48 22 00 00 00 00 00 00 00 00')).sense).toMatchObject({ key: 5, asc: 0x24 });
    const restarted = new ScsiBench({ state });
    expect((await restarted.run(READ)).sense).toMatchObject(FAILED);
    isBroken = false;
    expect((await bench.run(BLOCK_ERASE)).status).toBe(0);
    expect((await bench.run(READ)).status).toBe(0);
    isBroken = true;
    expect((await bench.run('48 22 00 00 00 00 00 00 00 00')).sense).toMatchObject(FAILED);
    expect((await bench.run(EXIT_FAILURE_MODE)).status).toBe(0);
    expect((await bench.run(READ)).status).toBe(0);
    expect(state.sanitize).toBeUndefined();
  });

  test('an EXIT FAILURE MODE that is still being kept does not let anybody near the next operation', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    bench.device.intercept = (operation) => {
      if (operation === 'unmap') throw new FarshoreError('damaged', 'something is wrong');
    };
    const mayFail = '48 22 00 00 00 00 00 00 00 00';
    expect((await bench.run(mayFail)).sense).toMatchObject(FAILED);
    const open = gate(bench, 'unmap');
    const exit = bench.run(EXIT_FAILURE_MODE);
    const again = bench.run(mayFail);
    expect((await exit).status).toBe(0);
    expect((await bench.run(TEST_UNIT_READY)).sense).toMatchObject(IN_PROGRESS);
    expect((await bench.run(mayFail)).sense).toMatchObject(IN_PROGRESS);
    open();
    expect((await again).status).toBe(0);
    expect((await bench.run(TEST_UNIT_READY)).status).toBe(0);
  });

  test('the unit is ready again only when a successor would not sanitize it once more, however long that takes', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    const reached = away(state);
    const answered = bench.run(BLOCK_ERASE);
    await until(() => (state.sanitize as { state?: string } | undefined)?.state === 'ended');
    for (let turn = 0; turn < 20_000; turn += 1) await new Promise((resolve) => setImmediate(resolve)); // hours
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).sense).toMatchObject({ ...IN_PROGRESS, progress: 0xffff });
    reached.resolve();
    expect((await answered).status).toBe(0);
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).status).toBe(0);
    expect(state.sanitize).toBeUndefined();
  });

  test('a restart while the end is not known elsewhere neither erases again nor lets anybody write', async () => {
    const state = new MemoryState();
    const first = new ScsiBench({ state });
    away(state);
    expect((await first.run(BLOCK_ERASE_LATER)).status).toBe(0);
    await until(() => (state.sanitize as { state?: string }).state === 'ended');

    const again = new MemoryState();
    again.document = state.document;
    const reached = away(again);
    const second = new ScsiBench({ state: again });
    second.device.bytes.fill(1);
    for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    for (const cdb of [TEST_UNIT_READY, READ, BLOCK_ERASE])
      expect((await second.run(cdb)).sense).toMatchObject(IN_PROGRESS);
    reached.resolve();
    await until(async () => (await second.run(TEST_UNIT_READY)).status === 0);
    expect(second.device.bytes.every((byte) => byte === 1)).toBe(true);
    expect(again.sanitize).toBeUndefined();
  });

  test('a unit of which nobody will ever know the end stays as it is, and whoever waits is told', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    const reached = away(state);
    const answered = bench.run(BLOCK_ERASE);
    reached.reject(new FarshoreError('fenced', 'another gateway has it'));
    expect((await answered).sense).toMatchObject(IN_PROGRESS);
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).sense).toMatchObject(IN_PROGRESS);
    expect(state.sanitize).toMatchObject({ state: 'ended' });
  });

  test('a command that is aborted while it waits for the cloud is let go', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    const reached = away(state);
    const life = { state: 'executing' };
    const answered = bench.run(BLOCK_ERASE, undefined, bench.nexus, 0, life);
    await until(() => (state.sanitize as { state?: string } | undefined)?.state === 'ended');
    life.state = 'aborted';
    expect((await answered).status).toBe(0x40);
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).sense).toMatchObject(IN_PROGRESS);
    reached.resolve();
    await until(async () => (await bench.run(TEST_UNIT_READY)).status === 0);
  });

  test('an aborted EXIT FAILURE MODE is let go too', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    bench.device.intercept = (operation) => {
      if (operation === 'unmap') throw new FarshoreError('damaged', 'something is wrong');
    };
    expect((await bench.run('48 22 00 00 00 00 00 00 00 00')).sense).toMatchObject(FAILED);
    const reached = away(state);
    const life = { state: 'executing' };
    const answered = bench.run(EXIT_FAILURE_MODE, undefined, bench.nexus, 0, life);
    await until(() => (state.sanitize as { state?: string }).state === 'ended');
    life.state = 'aborted';
    expect((await answered).status).toBe(0x40);
    reached.resolve();
    await until(async () => (await bench.run(TEST_UNIT_READY)).status === 0);
  });

  test('EXIT FAILURE MODE too gives the unit back only when a successor would not begin again', async () => {
    const state = new MemoryState();
    const bench = new ScsiBench({ state });
    bench.device.intercept = (operation) => {
      if (operation === 'unmap') throw new FarshoreError('damaged', 'something is wrong');
    };
    expect((await bench.run('48 22 00 00 00 00 00 00 00 00')).sense).toMatchObject(FAILED);
    const reached = away(state);
    const answered = bench.run(EXIT_FAILURE_MODE);
    await until(() => (state.sanitize as { state?: string }).state === 'ended');
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).sense).toMatchObject(IN_PROGRESS);
    reached.resolve();
    expect((await answered).status).toBe(0);
    expect((await bench.run(WRITE, Buffer.alloc(512, 1))).status).toBe(0);
  });

  test('what was kept and makes no sense locks the unit', async () => {
    const state = new MemoryState();
    state.document = JSON.stringify({ format: 1, sanitize: { method: 'magic' } });
    const bench = new ScsiBench({ state, bytes: MIB });
    expect((await bench.run(READ)).sense).toMatchObject({ key: 2, asc: 4, ascq: 3 });
  });
});

import { afterEach, describe, expect, it } from 'vitest';
import type { LoadCase } from '../../../bench/cases.ts';
import { LoadGenerator, fill } from '../../../bench/generator.ts';
import type { LoadRequest } from '../../../bench/generator.ts';
import { BLOCK_BYTES, stamp, wrongStamp } from '../../../bench/load-data.ts';
import type { Portal } from '../../../bench/load.ts';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { IscsiWorld, TARGET } from '../../support/iscsi-world.ts';
import { ScriptedTarget } from '../initiator/scripted-target.ts';
import type { Request } from '../initiator/scripted-target.ts';

const closers: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const MIB = 1024 * 1024;
const LUN_BYTES = 8 * MIB;
const READING: LoadCase = {
  name: 'reading',
  title: 'reading',
  ioBytes: BLOCK_BYTES,
  depth: 8,
  pattern: 'sequential',
  reads: 1,
  flushEach: false,
};
const WRITING: LoadCase = { ...READING, name: 'writing', pattern: 'random', reads: 0 };

function request(load: LoadCase, more: Partial<LoadRequest> = {}): LoadRequest {
  // The end comes by maxWriteBytes; the time is only there so that a test that fails ends.
  return { load, lunBytes: LUN_BYTES, sectorSize: 512, rampMs: 0, durationMs: 60_000, seed: 7, ...more };
}

async function world(): Promise<{ world: IscsiWorld; portal: Portal }> {
  const started = await IscsiWorld.start();
  closers.push(() => started.stop());
  return { world: started, portal: { host: '127.0.0.1', port: started.port, target: TARGET, lun: 0 } };
}

async function script(
  onRequest: (request: Request, target: ScriptedTarget) => void,
  keys: Readonly<Record<string, string>> = {},
): Promise<Portal> {
  const target = await new ScriptedTarget({ keys, onRequest, window: 1000 }).listen();
  closers.push(() => target.close());
  return { host: '127.0.0.1', port: target.port, target: 'iqn.disk', lun: 0 };
}

const opcodeOf = (asked: Request): number => asked.header[32] ?? 0;
const READ = 0x88;
const SYNCHRONIZE = 0x91;

describe('the load generator', () => {
  it('fills a LUN with stamped blocks, and reads all of them back', async () => {
    const { world: target, portal } = await world();
    await fill(portal, LUN_BYTES, 512);
    expect(wrongStamp(target.device.bytes, 0, LUN_BYTES, 0, 0)).toBeUndefined();
    expect(await new LoadGenerator(request(READING)).once(portal)).toBe(LUN_BYTES / BLOCK_BYTES);
    const large = { ...READING, ioBytes: 256 * 1024, depth: 3 };
    // Of large transfers every 16th is compared.
    expect(await new LoadGenerator(request(large)).once(portal)).toBe(128);
  });

  it('ends at a foreign block', async () => {
    const { world: target, portal } = await world();
    await fill(portal, LUN_BYTES, 512);
    target.device.bytes.writeUInt32BE(77, 1000 * BLOCK_BYTES + 4);
    await expect(new LoadGenerator(request(READING)).once(portal)).rejects.toThrow(/block 1000 holds foreign bytes/);
  });

  it('writes until the bound is reached, flushes where that is asked for, and counts what was answered', async () => {
    const { world: target, portal } = await world();
    const flushing = { ...WRITING, flushEach: true };
    const result = await new LoadGenerator(request(flushing, { maxWriteBytes: 200 * BLOCK_BYTES })).run(portal);
    expect(result.operations).toBeGreaterThanOrEqual(190);
    expect(result.operations).toBeLessThanOrEqual(210);
    expect(result.bytes).toBe(result.operations * BLOCK_BYTES);
    expect(target.device.flushes).toBeGreaterThanOrEqual(result.operations);
    expect(result.p50Ms).toBeLessThanOrEqual(result.p99Ms);
  });

  it('tries again what the target is too busy for, and says how often', async () => {
    const { world: target, portal } = await world();
    let refusals = 5;
    target.device.intercept = (operation) => {
      if (operation !== 'write' || refusals === 0) return;
      refusals -= 1;
      throw new FarshoreError('busy', 'not now');
    };
    const result = await new LoadGenerator(request(WRITING, { maxWriteBytes: 100 * BLOCK_BYTES })).run(portal);
    expect(result.busy).toBe(5);
    expect(result.operations).toBeGreaterThan(80);
  });

  it('ends at an error of the medium', async () => {
    const { world: target, portal } = await world();
    target.device.intercept = () => {
      throw new FarshoreError('damaged', 'gone');
    };
    await expect(new LoadGenerator(request(WRITING)).run(portal)).rejects.toThrow(/writing failed: .*MEDIUM ERROR/);
  });

  it('brings its data along as the target wants it: unsolicited in small pieces, then when asked', async () => {
    const content = Buffer.alloc(LUN_BYTES);
    const wanted = new Map<number, { at: number; bytes: number }>();
    const got = (target: ScriptedTarget, tag: number, to: number): void => {
      const write = wanted.get(tag);
      if (write === undefined) throw new Error(`no write ${tag}`);
      if (to === write.bytes) target.scsiResponse(tag);
      else
        target.send({
          opcode: 0x31,
          words: { 16: tag, 20: 5, 40: to, 44: Math.min(100_000, write.bytes - to) & ~511 },
        });
    };
    const portal = await script(
      (asked, target) => {
        if (asked.opcode === 5) {
          const from = asked.header.readUInt32BE(40);
          asked.data.copy(content, (wanted.get(asked.tag)?.at ?? 0) + from);
          if ((asked.flags & 0x80) !== 0) got(target, asked.tag, from + asked.data.length);
        } else if (opcodeOf(asked) === 0x8a) {
          wanted.set(asked.tag, { at: asked.header.readUInt32BE(38) * 512, bytes: asked.header.readUInt32BE(20) });
          asked.data.copy(content, asked.header.readUInt32BE(38) * 512);
          if ((asked.flags & 0x80) !== 0) got(target, asked.tag, asked.data.length);
        } else target.scsiResponse(asked.tag);
      },
      {
        MaxRecvDataSegmentLength: '8192',
        InitialR2T: 'No',
        ImmediateData: 'Yes',
        FirstBurstLength: '65536',
        MaxBurstLength: '131072',
      },
    );
    await fill(portal, LUN_BYTES, 512);
    expect(wrongStamp(content, 0, LUN_BYTES, 0, 0)).toBeUndefined();
  });

  it('answers pings, and takes reads in any pieces', async () => {
    let pings = 0;
    let answered = 0;
    const portal = await script((asked, target) => {
      if (asked.opcode === 0) {
        expect(asked.header.readUInt32BE(20)).toBe(321);
        answered += 1;
      } else if (opcodeOf(asked) === READ) {
        if (pings < 3) {
          pings += 1;
          target.send({ opcode: 0x20, words: { 16: 0xffffffff, 20: 321 } });
        }
        const bytes = asked.header.readUInt32BE(20);
        const data = Buffer.alloc(bytes);
        stamp(data, 0, bytes, asked.header.readUInt32BE(38) / 8, 1);
        const words = { 16: asked.tag };
        target.send({ opcode: 0x25, words: { ...words, 36: 0, 40: 0 }, data: data.subarray(0, 5) });
        target.send({ opcode: 0x25, words: { ...words, 36: 1, 40: 5 }, data: data.subarray(5, 4001) });
        target.respond({ opcode: 0x25, flags: 0x81, words: { ...words, 36: 2, 40: 4001 }, data: data.subarray(4001) });
      } else target.scsiResponse(asked.tag);
    });
    const small = request({ ...READING, ioBytes: 2 * BLOCK_BYTES }, { lunBytes: MIB });
    await new LoadGenerator(small).once(portal);
    expect(answered).toBe(3);
  });

  it('keeps to the window of the target', async () => {
    let outstanding = 0;
    let most = 0;
    const { world: target, portal } = await world();
    target.device.intercept = async () => {
      outstanding += 1;
      most = Math.max(most, outstanding);
      await new Promise((resolve) => setImmediate(resolve));
      outstanding -= 1;
    };
    const deep = request({ ...READING, depth: 300 });
    await new LoadGenerator(deep).once(portal).catch((error: unknown) => {
      // Nothing was written, so the first block read is not ours; until then all went out that might.
      expect(String(error)).toMatch(/foreign/);
    });
    expect(most).toBeLessThanOrEqual(128);
  });

  it.each([
    [
      'an answer to a command that is not under way',
      (tag: number) => ({ opcode: 0x21, words: { 16: tag + 1 } }),
      /not under way/,
    ],
    ['a gap in StatSN', (tag: number) => ({ opcode: 0x21, words: { 16: tag, 24: 4711 } }), /StatSN 4711/],
    ['an opcode that has no business there', (tag: number) => ({ opcode: 0x3f, words: { 16: tag } }), /opcode 63/],
    [
      'data at another place',
      (tag: number) => ({ opcode: 0x25, flags: 0x81, words: { 16: tag, 40: 512 }, data: Buffer.alloc(512) }),
      /not the next ones/,
    ],
    [
      'a read that is short',
      (tag: number) => ({ opcode: 0x21, words: { 16: tag } }),
      /answered a read of 4096 bytes with 0/,
    ],
  ])('ends at %s', async (_, answer, message) => {
    const portal = await script((asked, target) => {
      if (opcodeOf(asked) === READ) target.respond(answer(asked.tag));
      else target.scsiResponse(asked.tag);
    });
    await expect(new LoadGenerator(request({ ...READING, depth: 1 })).once(portal)).rejects.toThrow(message);
  });

  it('ends when the connection does', async () => {
    const portal = await script((asked, target) => {
      if (opcodeOf(asked) === SYNCHRONIZE) target.hangUp();
      else target.scsiResponse(asked.tag);
    });
    const flushing = request({ ...WRITING, flushEach: true });
    await expect(new LoadGenerator(flushing).run(portal)).rejects.toThrow(/connection to 127/);
  });
});

import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KIB } from '../../gateway/base/units.ts';
import {
  KIND,
  buildCommand,
  buildDataOut,
  buildRequest,
  buildTaskManagement,
  cdb,
  read10,
  write10,
} from '../support/iscsi-wire.ts';
import type { Response } from '../support/iscsi-wire.ts';
import { IscsiWorld } from '../support/iscsi-world.ts';
import { RamDevice } from '../support/ram-device.ts';
import type { RawInitiator } from '../support/raw-initiator.ts';

/** A session against a model of its medium: whatever is asked, in whatever fragments, with whatever data phase. */

/** A last resort against a hang. */
const TIMEOUT_MS = 240_000;
const SECTORS = 128;
const device = new RamDevice({ bytes: 64 * KIB });
let world: IscsiWorld;
beforeAll(async () => {
  world = await IscsiWorld.start({ luns: new Map([[0, device]]) });
});
afterAll(async () => {
  await world.stop();
  expect(world.server.usage()).toEqual({ connections: 0, sessions: 0, writeBytes: 0, readBytes: 0 });
});

const extent = fc
  .tuple(fc.nat(SECTORS - 1), fc.integer({ min: 1, max: 24 }))
  .map(([lba, sectors]) => ({ lba, sectors: Math.min(sectors, SECTORS - lba) }));
const phase = fc.record({
  /** Of the data, as far as the terms allow. */
  immediate: fc.nat(12 * KIB),
  unsolicited: fc.boolean(),
  stride: fc.constantFrom(100, 512, 4096, 65_536),
});
/** Where the sequence of Data-Out PDUs is given up, and how. */
const end = fc.constantFrom('abort' as const, 'reset' as const, 'reinstate' as const, 'cut' as const);

type Step =
  | {
      readonly kind: 'write';
      readonly at: { lba: number; sectors: number };
      readonly fill: number;
      readonly phase: Phase;
    }
  | {
      readonly kind: 'given up';
      readonly at: { lba: number; sectors: number };
      readonly fill: number;
      readonly phase: Phase;
      readonly how: 'abort' | 'reset' | 'reinstate' | 'cut';
    }
  | { readonly kind: 'read' | 'unmap' | 'zero'; readonly at: { lba: number; sectors: number } };
interface Phase {
  readonly immediate: number;
  readonly unsolicited: boolean;
  readonly stride: number;
}

const fill = fc.integer({ min: 1, max: 255 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), at: extent, fill, phase }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('read' as const, 'unmap' as const, 'zero' as const), at: extent }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('given up' as const), at: extent, fill, phase, how: end }),
  },
);
const terms = fc.record({
  InitialR2T: fc.constantFrom('Yes', 'No'),
  ImmediateData: fc.constantFrom('Yes', 'No'),
  FirstBurstLength: fc.constantFrom('512', '4096', '65536'),
  MaxBurstLength: fc.constantFrom('4096', '65536'),
  MaxRecvDataSegmentLength: fc.constantFrom('512', '8192'),
  HeaderDigest: fc.constantFrom('None', 'CRC32C'),
  DataDigest: fc.constantFrom('None', 'CRC32C'),
});
type Terms = Readonly<Record<string, string>>;

/** One run: the session, what its medium must hold, and how its bytes are cut. */
class Talk {
  readonly #terms: Terms;
  readonly #cuts: readonly number[];
  #cut = 0;
  readonly expected = Buffer.alloc(64 * KIB);
  initiator!: RawInitiator;

  constructor(settled: Terms, cuts: readonly number[]) {
    this.#terms = settled;
    this.#cuts = cuts;
  }

  async login(): Promise<void> {
    this.initiator = await world.ready({ keys: this.#terms });
  }

  /** In fragments that have nothing to do with PDUs. */
  async #send(...pdus: readonly Buffer[]): Promise<void> {
    let bytes = this.initiator.framed(...pdus);
    while (bytes.length > 0 && this.#cuts.length > 0) {
      const size = this.#cuts[this.#cut++ % this.#cuts.length] ?? bytes.length;
      const part = bytes.subarray(0, size);
      await new Promise<void>((resolve) => {
        this.initiator.socket.write(part, () => {
          resolve();
        });
      });
      bytes = bytes.subarray(size);
      if (this.#cut % 7 === 0) break; // the rest at once
    }
    if (bytes.length > 0) this.initiator.sendBytes(bytes);
  }

  async act(made: Step): Promise<void> {
    const { lba, sectors } = made.at;
    const bytes = sectors * 512;
    const held = this.expected.subarray(lba * 512, lba * 512 + bytes);
    switch (made.kind) {
      case 'read': {
        const { status, data } = await this.initiator.run({
          cdb: read10(lba, sectors),
          read: true,
          expectedBytes: bytes,
        });
        expect(status).toBe(0);
        expect(data.equals(held)).toBe(true);
        return;
      }
      case 'zero': {
        const block = cdb(0x93, 0x01);
        block.writeUInt32BE(lba, 6);
        block.writeUInt32BE(sectors, 10);
        const zeros = Buffer.alloc(512);
        const fields = this.#terms['ImmediateData'] === 'Yes' ? { data: zeros } : undefined;
        if (fields === undefined) block.writeUInt8(0x01 | 0x08, 1);
        const out = fields === undefined ? {} : { write: true, expectedBytes: 512, ...fields };
        expect((await this.initiator.run({ cdb: block, ...out })).status).toBe(0);
        held.fill(0);
        return;
      }
      case 'unmap': {
        const list = Buffer.alloc(24);
        list.writeUInt16BE(22, 0);
        list.writeUInt16BE(16, 2);
        list.writeUInt32BE(lba, 12);
        list.writeUInt32BE(sectors, 16);
        expect((await this.#write(cdb(0x42, 0, 0, 0, 0, 0, 0, 0, 24), list, PLAIN_PHASE))?.byte3).toBe(0);
        held.fill(0);
        return;
      }
      case 'write': {
        const response = await this.#write(write10(lba, sectors), Buffer.alloc(bytes, made.fill), made.phase);
        expect(response?.byte3).toBe(0);
        held.fill(made.fill);
        return;
      }
      case 'given up': {
        const whole = await this.#write(write10(lba, sectors), Buffer.alloc(bytes, made.fill), made.phase, made.how);
        // Where all of it was there already the write was over before it could be given up.
        if (whole !== undefined) held.fill(made.fill);
        return;
      }
    }
  }

  /**
   * A write with its data phase, its last Data-Out PDU kept back if it is `givenUp`. The response; undefined when it was
   * given up before its data was complete.
   */
  async #write(block: Buffer, data: Buffer, { immediate, unsolicited, stride }: Phase, givenUp?: string) {
    const { initiator } = this;
    const isYes = (key: string): boolean => this.#terms[key] === 'Yes';
    const firstBurst = Math.min(Number(this.#terms['FirstBurstLength']), Number(this.#terms['MaxBurstLength']));
    const immediateBytes = isYes('ImmediateData') ? Math.min(immediate, data.length, firstBurst, 8 * KIB) : 0;
    const unasked = !isYes('InitialR2T') && unsolicited && immediateBytes < Math.min(data.length, firstBurst);
    const refCmdSn = initiator.cmdSn;
    const itt = initiator.nextItt++;
    const command = buildCommand({
      cdb: block,
      itt,
      cmdSn: initiator.cmdSn++,
      write: true,
      final: !unasked,
      expectedBytes: data.length,
      ...(immediateBytes > 0 ? { data: data.subarray(0, immediateBytes) } : {}),
    });
    let at = immediateBytes;
    const burst = (ttt: number, stop: number): Buffer[] => {
      const pdus: Buffer[] = [];
      for (let dataSn = 0; at < stop; dataSn += 1) {
        const next = Math.min(at + stride, stop, at + 8 * KIB);
        pdus.push(buildDataOut({ itt, ttt, dataSn, offset: at, data: data.subarray(at, next), final: next === stop }));
        at = next;
      }
      return pdus;
    };
    const giveUp = (pdus: Buffer[]): Buffer | undefined =>
      givenUp !== undefined && at === data.length ? pdus.pop() : undefined;
    const first = unasked ? burst(0xffff_ffff, Math.min(data.length, firstBurst)) : [];
    let kept = giveUp(first);
    await this.#send(command, ...first);
    for (;;) {
      if (kept !== undefined) {
        await this.#stop(givenUp ?? '', { itt, refCmdSn }, kept);
        return undefined;
      }
      const response: Response | undefined = await initiator.receive();
      if (response?.opcode !== KIND.r2t) return response;
      expect([response.itt, response.word40]).toEqual([itt, at]);
      const solicited = burst(response.word20, response.word40 + response.word44);
      kept = giveUp(solicited);
      await this.#send(...solicited);
    }
  }

  /** The end of a write that lacks its last data, which comes too late, if at all. */
  async #stop(how: string, { itt, refCmdSn }: { itt: number; refCmdSn: number }, late: Buffer): Promise<void> {
    const { initiator } = this;
    if (how === 'abort' || how === 'reset') {
      const code = how === 'abort' ? 1 : 5;
      const tags = { itt: initiator.nextItt++, cmdSn: initiator.cmdSn };
      await this.#send(buildTaskManagement({ function: code, ...tags, rtt: itt, refCmdSn }));
      expect((await initiator.expect(KIND.taskManagement)).byte2).toBe(0);
      await this.#send(late);
      await initiator.clear();
      return;
    }
    if (how === 'cut') {
      initiator.sendBytes(initiator.framed(late).subarray(0, -5));
      initiator.destroy();
    }
    await this.login();
    if (how === 'reinstate') await initiator.closed();
  }

  async finish(): Promise<void> {
    expect(device.bytes.equals(this.expected)).toBe(true);
    this.initiator.send(buildRequest({ opcode: 0x06, itt: 9, immediate: true, cmdSn: this.initiator.cmdSn }));
    await this.initiator.expect(KIND.logout);
    await this.initiator.closed();
  }
}

const PLAIN_PHASE: Phase = { immediate: 65_536, unsolicited: true, stride: 65_536 };

test(
  'a session does to its medium what was asked, no more and no less, and nothing of what was given up',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        terms,
        fc.array(step, { minLength: 1, maxLength: 14 }),
        fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 5 }),
        async (settled, steps, cuts) => {
          device.bytes.fill(0);
          const talk = new Talk(settled, cuts);
          await talk.login();
          for (const made of steps) await talk.act(made);
          await talk.finish();
        },
      ),
      { numRuns: 120 },
    );
  },
  TIMEOUT_MS,
);

import { KIB } from '../../gateway/base/units.ts';
import { anyCommand, reservationCommand } from '../fuzz/commands.ts';
import type { SimRandom } from '../sim/sim-random.ts';
import { Front } from './front.ts';
import type { FrontOptions } from './front.ts';
import { buildCommand, buildTaskManagement, cdb, read10, write10 } from './iscsi-wire.ts';
import { RamDevice } from './ram-device.ts';

export const BYTES = 512 * KIB;

/** One session at a RAM device, and all that was sent to its initiator. */
export class Twin {
  readonly device = new RamDevice({ bytes: BYTES });
  readonly front: Front;
  readonly sent: Buffer[] = [];
  cmdSn = 1;

  constructor(ways: { readonly readsAtOnce: boolean; readonly gathersWrites: boolean }, options: FrontOptions = {}) {
    for (let at = 0; at < BYTES; at += 4) this.device.bytes.writeUInt32LE(at, at);
    this.device.readsAtOnce = ways.readsAtOnce;
    this.device.gathersWrites = ways.gathersWrites;
    this.front = new Front(this.device, options);
    this.front.sink.sent = this.sent;
  }

  /** Until nothing is under way any more. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 100; turn += 1) {
      await new Promise(setImmediate);
      this.front.flush();
      if (this.front.session.tasks.size === 0) return;
    }
  }

  async ready(): Promise<this> {
    this.command(cdb(0));
    await this.settle();
    this.sent.length = 0;
    return this;
  }

  command(block: Buffer, fields: Partial<Parameters<typeof buildCommand>[0]> = {}, attribute = 1): void {
    this.front.push(this.pdu(block, fields, attribute));
  }

  pdu(block: Buffer, fields: Partial<Parameters<typeof buildCommand>[0]> = {}, attribute = 1): Buffer {
    const cmdSn = fields.cmdSn ?? this.cmdSn++;
    const pdu = buildCommand({ cdb: block, itt: 0x1000 + cmdSn, ...fields, cmdSn });
    pdu.writeUInt8((pdu.readUInt8(1) & 0xf8) | attribute, 1);
    return pdu;
  }
}

export type Act = (twin: Twin) => void | Promise<void>;

/** What a seed makes of a stream: mostly reads or writes, and everything that can get into their way. */
export function acts(random: SimRandom, count: number, mostly: 'reads' | 'writes'): Act[] {
  return Array.from({ length: count }, (): Act => {
    const attribute = random.chance(0.9) ? 1 : random.between(0, 7);
    const lun = random.chance(0.95) ? 0 : random.between(1, 3);
    if (random.chance(0.5)) {
      const sectors = random.pick([1, 8, 8, 8, 64, 200, 520]);
      const short = mostly === 'reads' ? read10 : write10;
      const block = random.chance(0.5) ? short(0, sectors) : cdb(mostly === 'reads' ? 0x88 : 0x8a);
      const isLong = block.readUInt8(0) >= 0x80;
      const at = random.chance(0.9) ? random.between(0, BYTES / 512 - sectors) : random.between(0, 2000);
      if (isLong) {
        block.writeUInt32BE(random.chance(0.98) ? 0 : 1, 2);
        block.writeUInt32BE(at, 6);
        block.writeUInt32BE(sectors, 10);
      } else block.writeUInt32BE(at, 2);
      if (random.chance(0.1)) block.writeUInt8(random.between(0, 255), 1);
      if (random.chance(0.05)) block.writeUInt8(0x04, isLong ? 15 : 9);
      const expectedBytes = random.chance(0.9) ? sectors * 512 : random.between(0, 600_000);
      const flagged = random.chance(0.97);
      const data =
        mostly === 'reads'
          ? undefined
          : random.bytes(Math.min(256 * KIB, random.chance(0.9) ? sectors * 512 : expectedBytes));
      const moves = data === undefined ? { read: flagged } : { write: flagged, data };
      const final = random.chance(0.97);
      const immediate = random.chance(0.05);
      const itt = random.chance(0.95) ? undefined : 7;
      return (twin) => {
        const cmdSn = immediate ? twin.cmdSn : undefined;
        const fields = {
          ...moves,
          expectedBytes,
          lun,
          immediate,
          ...(final ? {} : { final }),
          ...(itt === undefined ? {} : { itt }),
        };
        twin.command(block, cmdSn === undefined ? fields : { ...fields, cmdSn }, attribute);
      };
    }
    if (random.chance(0.1)) {
      const kind = random.pick(['resize', 'read-only', 'reset', 'ahead', 'abort'] as const);
      const size = random.between(100, BYTES / 512);
      return (twin) => {
        if (kind === 'resize') twin.device.resize(size);
        else if (kind === 'read-only') {
          twin.front.luns.set(0, { device: twin.device, readOnly: size % 2 === 0, state: undefined });
          void twin.front.session.accessChanged({ name: 't', luns: () => twin.front.luns });
        } else if (kind === 'ahead') {
          const later = twin.pdu(read10(0, 8), { read: true, expectedBytes: 4096, cmdSn: twin.cmdSn + 1 });
          twin.front.push(later);
          twin.command(cdb(0), {});
          twin.cmdSn += 1;
        } else {
          const code = kind === 'reset' ? 5 : 2;
          twin.front.push(buildTaskManagement({ function: code, itt: 9, cmdSn: twin.cmdSn, lun: 0 }));
        }
      };
    }
    const { cdb: block, out, inBytes } = random.chance(0.2) ? reservationCommand(random) : anyCommand(random, 512);
    const data = out === undefined || out.length > 256 * KIB ? undefined : out;
    const moves =
      data === undefined
        ? { read: inBytes !== undefined, expectedBytes: inBytes ?? 0 }
        : { write: true, expectedBytes: data.length, data };
    return (twin) => {
      twin.command(block, { ...moves, lun }, attribute);
    };
  });
}

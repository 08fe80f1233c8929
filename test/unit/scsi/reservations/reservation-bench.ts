import type { UnitNexus } from '../../../../gateway/scsi/logical-unit.ts';
import type { UnitStateStore } from '../../../../gateway/scsi/unit-state.ts';
import { ScsiBench } from '../../../support/scsi-bench.ts';
import type { Outcome } from '../../../support/scsi-bench.ts';

export const TYPES = {
  'write exclusive': 1,
  'exclusive access': 3,
  'write exclusive, registrants only': 5,
  'exclusive access, registrants only': 6,
  'write exclusive, all registrants': 7,
  'exclusive access, all registrants': 8,
} as const;

export const GOOD = 0x00;
export const CHECK = 0x02;
export const CONFLICT = 0x18;

const TARGET = 'iqn.2026-11.dev.farshore:t';

export interface OutFields {
  readonly key?: bigint;
  /** SERVICE ACTION RESERVATION KEY. */
  readonly newKey?: bigint;
  readonly type?: number;
  readonly scope?: number;
  readonly persists?: boolean;
  readonly allPorts?: boolean;
  /** TransportIDs of SPEC_I_PT, ready-made. */
  readonly others?: readonly Buffer[];
}

const ACTIONS = [
  'register',
  'reserve',
  'release',
  'clear',
  'preempt',
  'preempt-and-abort',
  'register-and-ignore',
] as const;
export type Action = (typeof ACTIONS)[number];

/** A logical unit with several initiator ports, each by a letter, at one or two targets. */
export class ReservationBench {
  readonly bench: ScsiBench;
  readonly #nexuses = new Map<string, UnitNexus>();

  constructor(state?: UnitStateStore) {
    this.bench = new ScsiBench({ bytes: 64 * 1024, ...(state === undefined ? {} : { state }) });
  }

  /** `A`, or `A2` for the same initiator port at the second target. */
  nexus(who: string): UnitNexus {
    const known = this.#nexuses.get(who);
    if (known !== undefined) return known;
    const initiator = { name: nameOf(who), isid: ISID };
    const port = { targetName: who.endsWith('2') ? `${TARGET}2` : TARGET, portalGroupTag: 1 };
    const nexus = this.bench.join(this.bench.device, initiator, port);
    this.#nexuses.set(who, nexus);
    return nexus;
  }

  /** The session ends. */
  leave(who: string): void {
    const nexus = this.nexus(who);
    nexus.unit.leave(nexus);
    this.#nexuses.delete(who);
  }

  run(who: string, cdb: string | Buffer, data?: Buffer): Promise<Outcome> {
    return this.bench.run(cdb, data, this.nexus(who));
  }

  /** PERSISTENT RESERVE OUT. */
  out(who: string, action: Action, fields: OutFields = {}): Promise<Outcome> {
    const list = basicList(fields);
    return this.run(who, outCdb(ACTIONS.indexOf(action), fields, list.length), list);
  }

  /** REGISTER AND MOVE. */
  move(
    who: string,
    to: Buffer,
    fields: OutFields & { readonly unregister?: boolean; readonly port?: number },
  ): Promise<Outcome> {
    const list = Buffer.alloc(24);
    list.writeBigUInt64BE(fields.key ?? 0n, 0);
    list.writeBigUInt64BE(fields.newKey ?? 0n, 8);
    list[17] = (fields.unregister === true ? 2 : 0) | (fields.persists === true ? 1 : 0);
    list.writeUInt16BE(fields.port ?? 1, 18);
    list.writeUInt32BE(to.length, 20);
    return this.run(who, outCdb(7, fields, 24 + to.length), Buffer.concat([list, to]));
  }

  /** READ KEYS. */
  async keys(who = 'Z'): Promise<{ generation: number; keys: bigint[] }> {
    const data = await this.in(who, 0);
    const keys: bigint[] = [];
    for (let at = 8; at < data.length; at += 8) keys.push(data.readBigUInt64BE(at));
    return { generation: data.readUInt32BE(0), keys };
  }

  /** READ RESERVATION. */
  async reservation(who = 'Z'): Promise<{ key: bigint; type: number } | undefined> {
    const data = await this.in(who, 1);
    return data.length === 8 ? undefined : { key: data.readBigUInt64BE(8), type: data.readUInt8(21) };
  }

  async in(who: string, action: number): Promise<Buffer> {
    const { status, data } = await this.run(who, Buffer.from([0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0]));
    if (status !== GOOD) throw new Error(`PERSISTENT RESERVE IN was answered with status ${status}`);
    return data;
  }

  /** The unit attentions pending for a nexus, as additional sense code and qualifier in hexadecimal; they are taken. */
  attentions(who: string): string[] {
    const told: string[] = [];
    for (;;) {
      const sense = this.nexus(who).takeAttention();
      if (sense === undefined) return told;
      told.push(Buffer.from([sense.asc, sense.ascq]).toString('hex'));
    }
  }
}

export const ISID = '00023d000001';

export function nameOf(who: string): string {
  return `iqn.2026-11.example:${who.charAt(0).toLowerCase()}`;
}

/** TransportID of an initiator port (SPC-4 7.6.4.6); without an ISID that of the initiator device. */
export function transportId(name: string, isid?: string): Buffer {
  const text = Buffer.from(isid === undefined ? `${name}\0` : `${name},i,0x${isid}\0`, 'latin1');
  const padded = Buffer.concat([text, Buffer.alloc(Math.max(20 - text.length, -text.length & 3))]);
  return Buffer.concat([Buffer.from([isid === undefined ? 0x05 : 0x45, 0, 0, padded.length]), padded]);
}

function outCdb(action: number, { type = 0, scope = 0 }: OutFields, parameterBytes: number): Buffer {
  const cdb = Buffer.alloc(10);
  cdb.set([0x5f, action, (scope << 4) | type]);
  cdb.writeUInt32BE(parameterBytes, 5);
  return cdb;
}

function basicList({ key = 0n, newKey = 0n, persists, allPorts, others }: OutFields): Buffer {
  const list = Buffer.alloc(24);
  list.writeBigUInt64BE(key, 0);
  list.writeBigUInt64BE(newKey, 8);
  list[20] = (others === undefined ? 0 : 8) | (allPorts === true ? 4 : 0) | (persists === true ? 1 : 0);
  if (others === undefined) return list;
  const ids = Buffer.concat([Buffer.alloc(4), ...others]);
  ids.writeUInt32BE(ids.length - 4, 0);
  return Buffer.concat([list, ids]);
}

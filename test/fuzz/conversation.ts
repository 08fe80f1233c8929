import type { SimRandom } from '../sim/sim-random.ts';
import { buildCommand, buildDataOut, buildRequest, buildTaskManagement, cdb, textOf } from '../support/iscsi-wire.ts';
import { anyCommand, reservationCommand } from './commands.ts';
import type { FuzzCommand } from './commands.ts';
import { FUZZER_LUNS, MASKED_LUN } from './fuzz-world.ts';

/** What the login has settled, as far as a valid conversation depends on it. */
export interface Terms {
  readonly immediateData: boolean;
  readonly initialR2t: boolean;
  readonly firstCmdSn: number;
}

const NO_TAG = 0xffff_ffff;
const BURST_BYTES = 65_536;

/**
 * A valid conversation in full feature phase: commands of every kind with all ways of moving data, task management,
 * pings, text, logout. Nothing waits for an answer: the transfer tags of R2Ts are foreseen, since a session gives them
 * out in order.
 */
export function converse(random: SimRandom, terms: Terms, length: number): Buffer[] {
  const pdus: Buffer[] = [];
  let cmdSn = terms.firstCmdSn;
  let itt = random.pick([1, 1000, 0xffff_ff00]);
  let transferTag = 1;
  const recent: { itt: number; cmdSn: number }[] = [{ itt, cmdSn }];
  const next = (): { itt: number; cmdSn: number } => {
    const taken = { itt, cmdSn };
    itt = (itt + 1) >>> 0;
    cmdSn = (cmdSn + 1) >>> 0;
    recent.push(taken);
    return taken;
  };

  const command = (lun: number, made: FuzzCommand): void => {
    const tags = next();
    const out = made.out;
    const expectedBytes = out?.length ?? made.inBytes ?? 0;
    const immediateBytes =
      out === undefined || !terms.immediateData || random.chance(0.2)
        ? 0
        : Math.min(out.length, random.pick([512, 4096, 65_536]));
    const unsolicited = out !== undefined && !terms.initialR2t && immediateBytes < out.length && random.chance(0.5);
    const pdu = buildCommand({
      cdb: made.cdb,
      lun,
      ...tags,
      write: out !== undefined,
      read: out === undefined && expectedBytes > 0,
      expectedBytes,
      final: !unsolicited,
      ...(out !== undefined && immediateBytes > 0 ? { data: out.subarray(0, immediateBytes) } : {}),
    });
    if (random.chance(0.08)) pdu.writeUInt8((pdu.readUInt8(1) & 0xf8) | random.between(0, 4), 1);
    pdus.push(pdu);
    if (out === undefined) return;
    let at = immediateBytes;
    const burst = (tag: number, end: number): void => {
      const stride = random.pick([512, 1000, 8192, 65_536]);
      for (let dataSn = 0; at < end; dataSn += 1) {
        const stop = Math.min(at + stride, end);
        pdus.push(
          buildDataOut({
            itt: tags.itt,
            ttt: tag,
            dataSn,
            offset: at,
            data: out.subarray(at, stop),
            final: stop === end,
          }),
        );
        at = stop;
      }
    };
    if (unsolicited) burst(NO_TAG, Math.min(out.length, BURST_BYTES));
    while (at < out.length) burst(transferTag++, Math.min(out.length, at + 4 * BURST_BYTES));
  };

  const manage = (): void => {
    const about = random.pick(recent);
    const code = random.weighted({ '1': 6, '2': 2, '3': 0.3, '4': 2, '5': 2, '6': 0.7, '7': 0.15, '8': 0.3, '9': 0.1 });
    const lun = anyLun(random);
    pdus.push(buildTaskManagement({ function: Number(code), itt, cmdSn, lun, rtt: about.itt, refCmdSn: about.cmdSn }));
    itt = (itt + 1) >>> 0;
  };

  const ping = (): void => {
    const data = random.bytes(random.pick([0, 4, 100]));
    const immediate = random.chance(0.3);
    const tags = immediate ? { itt, cmdSn } : next();
    pdus.push(buildRequest({ opcode: 0x00, immediate, word20: NO_TAG, ...tags, data }));
  };

  const text = (): void => {
    const keys = random.pick<Record<string, string>>([
      { SendTargets: '' },
      { SendTargets: 'All' },
      { SendTargets: 'iqn.2026-11.dev.farshore.fuzz:private' },
      { MaxRecvDataSegmentLength: String(random.pick([512, 8192, 262_144])) },
      { 'X-com.example': 'a'.repeat(random.between(0, 300)) },
    ]);
    const whole = textOf(keys);
    const cut = random.chance(0.3) ? random.between(0, whole.length) : whole.length;
    if (cut < whole.length)
      pdus.push(buildRequest({ opcode: 0x04, flags: 0x40, word20: NO_TAG, ...next(), data: whole.subarray(0, cut) }));
    pdus.push(
      buildRequest({
        opcode: 0x04,
        word20: cut < whole.length ? random.pick([1, 2]) : NO_TAG,
        ...next(),
        data: cut < whole.length ? whole.subarray(cut) : whole,
      }),
    );
  };

  // What is pending for a new session, and what earlier ones have stopped, is mostly got out of the way.
  if (random.chance(0.9))
    for (const lun of Object.values(FUZZER_LUNS)) {
      command(lun, { cdb: Buffer.alloc(16) });
      if (lun !== FUZZER_LUNS.readOnly) command(lun, { cdb: cdb(0x1b, 0, 0, 0, 1) });
    }
  const end = pdus.length + length;
  while (pdus.length < end) {
    switch (random.weighted({ command: 20, reserve: 0.6, manage: 1.2, ping: 1, text: 0.7, odd: 0.3 })) {
      case 'command': {
        const lun = anyLun(random);
        command(lun, anyCommand(random, lun === FUZZER_LUNS.large ? 4096 : 512));
        break;
      }
      case 'reserve':
        command(FUZZER_LUNS.reserved, reservationCommand(random));
        break;
      case 'manage':
        manage();
        break;
      case 'ping':
        ping();
        break;
      case 'text':
        text();
        break;
      case 'odd': // SNACK, a second login, nothing known
        pdus.push(buildRequest({ opcode: random.pick([0x10, 0x03, 0x1c, 0x20, 0x3f]), word20: NO_TAG, ...next() }));
        break;
    }
  }
  if (random.chance(0.4)) pdus.push(buildRequest({ opcode: 0x06, immediate: true, itt, cmdSn }));
  return pdus;
}

function anyLun(random: SimRandom): number {
  const { plain, large, readOnly, reserved } = FUZZER_LUNS;
  return random.chance(0.93)
    ? random.pick([plain, plain, plain, large, large, readOnly, reserved])
    : random.pick([MASKED_LUN, 4, 255, 0x4009, 0xc101]);
}

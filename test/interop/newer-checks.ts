import type { RawInitiator } from '../support/raw-initiator.ts';
import { KIND, buildRequest, buildTaskManagement, cdb, keysOf, textOf, write10 } from '../support/iscsi-wire.ts';
import type { Response } from '../support/iscsi-wire.ts';
import { NotApplicable, blockBytes, demand, good, inquiry, withSession } from './front-end-check.ts';
import type { Check } from './front-end-check.ts';

const NO_TAG = 0xffff_ffff;
const FUNCTION_COMPLETE = 0;
const LUN_RESET = 5;

/** A text request; undefined when it was rejected as a PDU. */
async function text(raw: RawInitiator, key: string, value: string): Promise<Record<string, string> | undefined> {
  raw.send(
    buildRequest({
      opcode: 0x04,
      immediate: true,
      itt: raw.nextItt++,
      word20: NO_TAG,
      cmdSn: raw.cmdSn,
      data: textOf({ [key]: value }),
    }),
  );
  const answer = await raw.receive();
  demand(answer !== undefined, `the target dropped the connection over ${key}=${value}`);
  if (answer.opcode === KIND.reject) return undefined;
  demand(answer.opcode === KIND.text, `a text request was answered with a ${answer.opcode.toString(16)}h`);
  return keysOf(answer.data);
}

/** SendTargets in a session for I/O lists the session's target at least. */
const sendTargets: Check = {
  test: 'ALL.iSCSISendTargets.Simple',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const keys = await text(raw, 'SendTargets', 'All');
      demand(keys !== undefined, 'SendTargets=All was rejected');
      demand(keys['TargetName'] !== undefined, 'the answer names no target');
      demand(keys['TargetAddress'] !== undefined, 'the answer names no portal');
      const own = await text(raw, 'SendTargets', lun.target);
      demand(own?.['TargetName'] === lun.target, 'the target does not know its own name');
    }),
};

/** RFC 7143 11.10: a key that is not known MUST be answered NotUnderstood; a Reject is clear enough too. */
const sendTargetsInvalid: Check = {
  test: 'ALL.iSCSISendTargets.Invalid',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const refused = ['NotUnderstood', 'Reject'];
      for (const [key, value] of [
        ['SendTargetsPlease', 'All'],
        ['SendTargets', 'Alle'],
        ['SendTargets', 'A'],
        ['sENDtARGETS', 'aLL'],
      ] as const) {
        const keys = await text(raw, key, value);
        if (keys === undefined) continue;
        demand(keys['TargetName'] === undefined, `${key}=${value} lists targets`);
        demand(refused.includes(keys[key] ?? ''), `${key}=${value} is not refused`);
      }
      demand((await text(raw, 'SendTargets', 'All')) !== undefined, 'SendTargets=All is rejected after bad ones');
    }),
};

/** RFC 7143 11.18, 11.19: a ping comes back with its data. */
const nop: Check = {
  test: 'ALL.iSCSINop.Simple',
  run: (lun) =>
    withSession(lun, async (raw) => {
      for (const data of [Buffer.from('nopping\0'), Buffer.alloc(0), Buffer.alloc(4096, 0x5a)]) {
        const itt = raw.nextItt++;
        raw.send(buildRequest({ opcode: 0x00, immediate: true, itt, word20: NO_TAG, cmdSn: raw.cmdSn, data }));
        const answer = await raw.expect(KIND.nopIn);
        demand(answer.itt === itt, 'the NOP-In has another task tag');
        demand(answer.data.equals(data), `a ping of ${data.length} bytes came back with ${answer.data.length}`);
      }
    }),
};

/** SPC-4 7.8.1: page codes in ascending order, without repetition. */
const sortedPages: Check = {
  test: 'ALL.Inquiry.VPDPageCodesSorted',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const page = await good(raw, lun, inquiry(255, 0), { in: 255 });
      const codes = [...page.subarray(4, 4 + page.readUInt16BE(2))];
      demand(codes.length > 0, 'no page is listed');
      codes.forEach((code, index) => {
        const previous = codes[index - 1];
        demand(previous === undefined || previous < code, `page ${code} comes after page ${previous ?? ''}`);
      });
    }),
};

interface PortGroup {
  readonly state: number;
  readonly ports: number;
  readonly bytes: Buffer;
}

/** REPORT TARGET PORT GROUPS with this allocation length (SPC-4 6.37), and the whole length it tells. */
async function portGroups(
  raw: RawInitiator,
  lun: Parameters<Check['run']>[0],
  allocation: number,
): Promise<{ readonly data: Buffer; readonly whole: number }> {
  const block = cdb(0xa3, 0x0a);
  block.writeUInt32BE(allocation, 6);
  const data = await good(raw, lun, block, { in: allocation });
  demand(data.length >= Math.min(4, allocation), 'the answer is shorter than its header');
  demand(data.length <= allocation, 'the answer is longer than the allocation length');
  return { data, whole: data.length < 4 ? 0 : data.readUInt32BE(0) + 4 };
}

function parseGroups(data: Buffer): PortGroup[] {
  const groups: PortGroup[] = [];
  for (let at = 4; at < data.length;) {
    const ports = data.readUInt8(at + 7);
    groups.push({ state: data.readUInt8(at) & 0x0f, ports, bytes: data.subarray(at, at + 8 + 4 * ports) });
    at += 8 + 4 * ports;
  }
  return groups;
}

async function requireAlua(raw: RawInitiator, lun: Parameters<Check['run']>[0]): Promise<void> {
  const standard = await good(raw, lun, inquiry(96), { in: 96 });
  if (((standard[5] ?? 0) & 0x30) === 0) throw new NotApplicable('the target does not claim ALUA (TPGS)');
}

const portGroupsSimple: Check = {
  test: 'ALL.ReportTargetPortGroups.Simple',
  run: (lun) =>
    withSession(lun, async (raw) => {
      await requireAlua(raw, lun);
      const { whole } = await portGroups(raw, lun, 4);
      const { data } = await portGroups(raw, lun, whole);
      demand(data.length === whole, 'the length told is not the length sent');
      const groups = parseGroups(data);
      const valid = [0x0, 0x1, 0x2, 0x3, 0x4, 0xe, 0xf];
      for (const group of groups) {
        demand(valid.includes(group.state), `access state ${group.state} does not exist`);
        demand(group.bytes.length === 8 + 4 * group.ports, 'a group is cut off');
      }
      demand(
        groups.some(({ state }) => state < 2),
        'no group can do I/O',
      );
    }),
};

const portGroupsAllocation: Check = {
  test: 'ALL.ReportTargetPortGroups.AllocLength',
  run: (lun) =>
    withSession(lun, async (raw) => {
      await requireAlua(raw, lun);
      const { whole } = await portGroups(raw, lun, 4);
      const { data } = await portGroups(raw, lun, whole);
      for (let allocation = 0; allocation <= whole; allocation += 1) {
        const part = await portGroups(raw, lun, allocation);
        demand(
          part.data.equals(data.subarray(0, allocation)),
          `with ${allocation} bytes of room it answers another thing`,
        );
      }
    }),
};

/** SBC-3 5.2: INFORMATION, when valid, is the offset of the first byte that differs. */
const miscompareSense: Check = {
  test: 'ALL.CompareAndWrite.MiscompareSense',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const limits = await good(raw, lun, inquiry(64, 0xb0), { in: 64 });
      if ((limits[5] ?? 0) === 0) throw new NotApplicable('the target does not claim COMPARE AND WRITE');
      const bytes = await blockBytes(raw, lun);
      const block = cdb(0x89);
      block[13] = 1;
      await good(raw, lun, write10(0, 1), { out: Buffer.alloc(bytes, 'A') });
      await good(raw, lun, block, { out: Buffer.concat([Buffer.alloc(bytes, 'A'), Buffer.alloc(bytes, 'B')]) });
      for (let at = 0; at < bytes; at += 1) {
        const data = Buffer.alloc(2 * bytes, 'B');
        data[at] = 0x5a;
        const { status, last } = await raw.run({
          cdb: block,
          lun: lun.lun,
          write: true,
          expectedBytes: data.length,
          data,
        });
        demand(status === 2, `a miscompare at byte ${at} ended with status ${status}`);
        checkMiscompare(last, at);
      }
    }),
};

/** The sense data of a SCSI Response, fixed or descriptor format (SPC-4 4.5): MISCOMPARE DURING VERIFY at this offset. */
function checkMiscompare(response: Response, offset: number): void {
  const sense = response.data.subarray(2);
  const fixed = ((sense[0] ?? 0) & 0x7e) === 0x70;
  const [key, asc, ascq] = fixed ? [sense[2], sense[12], sense[13]] : [sense[1], sense[2], sense[3]];
  demand(((key ?? 0) & 0x0f) === 0x0e && asc === 0x1d && ascq === 0, 'the sense is not MISCOMPARE DURING VERIFY');
  const valid = fixed && ((sense[0] ?? 0) & 0x80) !== 0;
  demand(
    !valid || sense.readUInt32BE(3) === offset,
    `INFORMATION is ${valid ? sense.readUInt32BE(3) : ''}, not ${offset}`,
  );
}

const WRITES_UNDER_WAY = 10;
const WRITE_BLOCKS = 8;

/** A logout is answered although writes are under way, and nothing of the session comes after it. */
const logoutDuringIo: Check = {
  test: 'ALL.iSCSITMF.LogoutDuringIOAsync',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const bytes = (await blockBytes(raw, lun)) * WRITE_BLOCKS;
      for (let index = 0; index < WRITES_UNDER_WAY; index += 1) {
        const data = Buffer.alloc(bytes, 'L');
        raw.command({
          cdb: write10(index * WRITE_BLOCKS, WRITE_BLOCKS),
          lun: lun.lun,
          write: true,
          expectedBytes: bytes,
          data,
        });
      }
      raw.send(buildRequest({ opcode: 0x06, immediate: true, itt: raw.nextItt++, cmdSn: raw.cmdSn }));
      for (;;) {
        const answer = await raw.receive();
        demand(answer !== undefined, 'the connection was dropped before the logout was answered');
        if (answer.opcode !== KIND.logout) continue;
        demand(answer.byte2 === 0, `the logout was refused with ${answer.byte2}`);
        break;
      }
      demand((await raw.receive()) === undefined, 'something came after the logout');
    }),
};

/** What ALL.iSCSITMF.LUNResetSimpleAsync means to test, with its assertion where it can hold. */
const lunReset: Check = {
  test: 'ALL.iSCSITMF.LUNResetSimpleAsync',
  run: (lun) =>
    withSession(lun, async (raw) => {
      const bytes = (await blockBytes(raw, lun)) * WRITE_BLOCKS;
      const data = Buffer.alloc(bytes);
      const write = raw.command({
        cdb: write10(0, WRITE_BLOCKS),
        lun: lun.lun,
        write: true,
        expectedBytes: bytes,
        data,
      });
      const reset = raw.nextItt++;
      raw.send(buildTaskManagement({ function: LUN_RESET, itt: reset, cmdSn: raw.cmdSn, lun: lun.lun }));
      for (;;) {
        const answer = await raw.receive();
        demand(answer !== undefined, 'the connection was dropped');
        if (answer.itt === write) {
          demand(answer.opcode === KIND.scsiResponse, 'the write was answered with another PDU');
          continue;
        }
        demand(answer.opcode === KIND.taskManagement && answer.itt === reset, 'another PDU came than the answer');
        demand(answer.byte2 === FUNCTION_COMPLETE, `LOGICAL UNIT RESET was answered with ${answer.byte2}`);
        break;
      }
      // Whether the write was carried out or aborted, the unit goes on.
      await raw.clear(lun.lun);
      await good(raw, lun, write10(0, 1), { out: data.subarray(0, bytes / WRITE_BLOCKS) });
    }),
};

/** In the order of libiscsi's list. */
export const NEWER_CHECKS: readonly Check[] = [
  miscompareSense,
  sortedPages,
  portGroupsAllocation,
  portGroupsSimple,
  nop,
  sendTargetsInvalid,
  sendTargets,
  logoutDuringIo,
  lunReset,
];

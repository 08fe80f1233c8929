import type { BlockDevice } from '../base/block-device.ts';
import { MIB, type ByteCount } from '../base/units.ts';

/** What thresholds and resources are counted in: large enough for 64 TiB in 32 bits (SBC-4 6.6.5). */
const THRESHOLD_SET_BYTES: ByteCount = MIB;

/** The Logical Block Provisioning mode page (SBC-4 6.5.9). */
export const PROVISIONING_PAGE = 0x1c;
export const PROVISIONING_SUBPAGE = 0x02;
const SPF = 0x40;
const PAGE_BYTES = 16;
const DESCRIPTOR_BYTES = 8;

/** Of a threshold descriptor: a soft threshold that is reached from below. */
const ENABLED = 0x80;
const ARMED_INCREASING = 0x01;

/** Resources: parameters of the log page, and what a threshold is about (SBC-4 6.4.5). */
const AVAILABLE_RESOURCES = 0x0001;
const USED_RESOURCES = 0x0002;
const OF_THE_UNIT = 0x01;
const OF_SEVERAL_UNITS = 0x02;

/** THRESHOLD EXPONENT of VPD page B2h: a threshold set has two to the power of it logical blocks. */
export function thresholdExponent(device: BlockDevice): number {
  return Math.log2(THRESHOLD_SET_BYTES / device.geometry().sectorSize);
}

/**
 * The Logical Block Provisioning mode page, whole: one soft threshold, on what is used of the quota, disabled while there is none. Hosts can't change
 * it: the quota is its administrator's.
 */
export function provisioningModePage(device: BlockDevice): Buffer {
  const page = Buffer.alloc(PAGE_BYTES + DESCRIPTOR_BYTES);
  page.set([SPF | PROVISIONING_PAGE, PROVISIONING_SUBPAGE]);
  page.writeUInt16BE(page.length - 4, 2);
  const space = device.space?.();
  page[PAGE_BYTES] = (space === undefined ? 0 : ENABLED) | ARMED_INCREASING;
  page[PAGE_BYTES + 1] = USED_RESOURCES;
  page.writeUInt32BE(space === undefined ? 0 : setsOf(space.lowBytes), PAGE_BYTES + 4);
  return page;
}

/**
 * Parameters of the Logical Block Provisioning log page (SBC-4 6.4.5): with a quota what is left and what is used of it, nothing before that was
 * counted; without one there is room for all of the unit, which has it in common with others.
 */
export function provisioningLogParameters(device: BlockDevice): readonly (readonly [code: number, value: Buffer])[] {
  const space = device.space?.();
  if (space === undefined) {
    const { sectors, sectorSize } = device.geometry();
    return [[AVAILABLE_RESOURCES, resourceCount(setsOf(sectors * sectorSize), OF_SEVERAL_UNITS)]];
  }
  const { bytes, mappedBytes } = space;
  if (mappedBytes === undefined) return [];
  const available = Math.floor(Math.max(0, bytes - mappedBytes) / THRESHOLD_SET_BYTES);
  return [
    [AVAILABLE_RESOURCES, resourceCount(available, OF_THE_UNIT)],
    [USED_RESOURCES, resourceCount(setsOf(mappedBytes), OF_THE_UNIT)],
  ];
}

/** RESOURCE COUNT and SCOPE. */
function resourceCount(sets: number, scope: number): Buffer {
  const value = Buffer.alloc(8);
  value.writeUInt32BE(sets, 0);
  value[4] = scope;
  return value;
}

function setsOf(bytes: ByteCount): number {
  return Math.ceil(bytes / THRESHOLD_SET_BYTES);
}

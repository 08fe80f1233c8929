import type { BlockDevice } from '../base/block-device.ts';
import { BLOCK_SIZE, MIB } from '../base/units.ts';
import { MAX_COMPARE_AND_WRITE_SECTORS, maxAtomicSectors } from './atomic-writes.ts';
import { PRODUCT_ID, RELATIVE_TARGET_PORT, TARGET_PORT_GROUP, VENDOR_ID } from './constants.ts';
import type { TargetPort } from './logical-unit.ts';
import { maxWriteSameSectors } from './limits.ts';
import { thresholdExponent } from './thresholds.ts';
import { thirdPartyCopy } from './xcopy/vpd.ts';

type EncodePage = (device: BlockDevice, port: TargetPort) => Buffer;

/** The vital product data pages, in ascending order as page 00h must list them (SPC-4 7.8). */
const PAGES: ReadonlyMap<number, EncodePage> = new Map<number, EncodePage>([
  [0x00, supportedPages],
  [0x80, unitSerialNumber],
  [0x83, deviceIdentification],
  [0x86, extendedInquiry],
  [0x87, modePagePolicy],
  [0x88, scsiPorts],
  [0x8f, thirdPartyCopy],
  [0xb0, blockLimits],
  [0xb1, blockDeviceCharacteristics],
  [0xb2, logicalBlockProvisioning],
]);

/** A whole VPD page with its header, or undefined when there is no such page. */
export function encodeVpdPage(page: number, device: BlockDevice, port: TargetPort): Buffer | undefined {
  const encode = PAGES.get(page);
  if (encode === undefined) return undefined;
  const body = encode(device, port);
  const header = Buffer.from([0x00, page, 0, 0]);
  header.writeUInt16BE(body.length, 2);
  return Buffer.concat([header, body]);
}

/** 00h (SPC-4 7.8.17). */
function supportedPages(): Buffer {
  return Buffer.from([...PAGES.keys()]);
}

/** 80h (SPC-4 7.8.18). */
function unitSerialNumber(device: BlockDevice): Buffer {
  return Buffer.from(device.identity.serial, 'latin1');
}

/** Code sets, associations and designator types (SPC-4 7.8.6). */
const BINARY = 1;
const ASCII = 2;
const UTF8 = 3;
const OF_UNIT = 0x00;
const OF_PORT = 0x10;
const OF_TARGET = 0x20;
const T10_VENDOR = 1;
const NAA = 3;
const RELATIVE_PORT = 4;
const PORT_GROUP = 5;
const SCSI_NAME = 8;

/** 83h (SPC-4 7.8.6): the unit's NAA and T10 vendor id, then the port with its group and name, and the target's name. */
function deviceIdentification(device: BlockDevice, port: TargetPort): Buffer {
  const vendorId = `${VENDOR_ID.padEnd(8)}${PRODUCT_ID.padEnd(16)}${device.identity.serial}`;
  return Buffer.concat([
    designator(BINARY, OF_UNIT | NAA, device.identity.naa),
    designator(ASCII, OF_UNIT | T10_VENDOR, Buffer.from(vendorId, 'latin1')),
    designator(BINARY, OF_PORT | RELATIVE_PORT, Buffer.from([0, 0, 0, RELATIVE_TARGET_PORT])),
    designator(BINARY, OF_PORT | PORT_GROUP, Buffer.from([0, 0, 0, TARGET_PORT_GROUP])),
    nameOfPort(port),
    designator(UTF8, OF_TARGET | SCSI_NAME, scsiName(port.targetName)),
  ]);
}

/** The SCSI name string of the target port (RFC 7143 4.2.7.2: name, portal group tag). */
function nameOfPort(port: TargetPort): Buffer {
  const tag = port.portalGroupTag.toString(16).padStart(4, '0');
  return designator(UTF8, OF_PORT | SCSI_NAME, scsiName(`${port.targetName},t,0x${tag}`));
}

/** A designation descriptor (SPC-4 7.8.6.1). The protocol (5, iSCSI) is given for ports and targets. */
function designator(codeSet: number, kind: number, value: Buffer): Buffer {
  const ofUnit = (kind & 0x30) === OF_UNIT;
  const header = Buffer.from([ofUnit ? codeSet : 0x50 | codeSet, ofUnit ? kind : 0x80 | kind, 0, value.length]);
  return Buffer.concat([header, value]);
}

/** A SCSI name string ends with a null and is padded to a multiple of four (SPC-4 7.8.6.11). */
function scsiName(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const padded = Buffer.alloc((bytes.length + 4) & ~3);
  bytes.copy(padded);
  return padded;
}

/** 86h (SPC-4 7.8.7): which bits of which commands are honoured. */
function extendedInquiry(): Buffer {
  const body = Buffer.alloc(60);
  body[1] = 0x01; // SIMPSUP: every task attribute is treated as SIMPLE
  body[2] = 0x01; // V_SUP: there is a volatile cache as far as hosts are concerned
  body[3] = 0x01; // LUICLR: that the LUNs have changed is told at one of them, and is told then
  return body;
}

/** 87h (SPC-4 7.8.9): every mode page and subpage is shared by all nexuses. */
function modePagePolicy(): Buffer {
  return Buffer.from([0x3f, 0xff, 0x00, 0x00]);
}

/** 88h (SPC-4 7.8, SCSI Ports): the one port, a target port. */
function scsiPorts(_device: BlockDevice, port: TargetPort): Buffer {
  const name = nameOfPort(port);
  const head = Buffer.alloc(12);
  head.writeUInt16BE(RELATIVE_TARGET_PORT, 2);
  head.writeUInt16BE(name.length, 10);
  return Buffer.concat([head, name]);
}

/** Hosts do best with transfers of this size. */
const OPTIMAL_TRANSFER_BYTES = MIB;

/** B0h (SBC-3), length 3Ch. */
function blockLimits(device: BlockDevice): Buffer {
  const { sectorSize } = device.geometry();
  const perBlock = BLOCK_SIZE / sectorSize;
  const maxTransfer = Math.floor(device.limits.maxTransferBytes / sectorSize);
  const body = Buffer.alloc(0x3c);
  // WSNZ: WRITE SAME has no length of 0 that means "to the end". Initiators have no use for it, and the one test that does expects an unmap
  // of blocks that it has said shall hold something else.
  body[0] = 0x01;
  body[1] = MAX_COMPARE_AND_WRITE_SECTORS;
  body.writeUInt16BE(perBlock, 2); // optimal transfer length granularity
  body.writeUInt32BE(maxTransfer, 4);
  body.writeUInt32BE(Math.min(maxTransfer, OPTIMAL_TRANSFER_BYTES / sectorSize), 8);
  body.writeUInt32BE(0xffff_ffff, 16); // maximum unmap LBA count: no limit, a range is a range
  body.writeUInt32BE(device.limits.maxUnmapRanges, 20);
  body.writeUInt32BE(perBlock, 24); // optimal unmap granularity
  body.writeUInt32BE(0x8000_0000, 28); // alignment 0, valid
  body.writeBigUInt64BE(BigInt(maxWriteSameSectors(sectorSize)), 32);
  body.writeUInt32BE(maxAtomicSectors(device), 40); // no alignment, granularity or boundary: 0
  return body;
}

/** B1h (SBC-3): not rotating. */
function blockDeviceCharacteristics(): Buffer {
  const body = Buffer.alloc(0x3c);
  body.writeUInt16BE(0x0001, 0);
  body[3] = 0x50; // WABEREQ, WACEREQ: after an erase reads complete without error
  return body;
}

/** B2h (SBC-4 6.6.7): thin; LBPU, LBPWS, LBPWS10, and LBPRZ: unmapped sectors read as zeros. */
function logicalBlockProvisioning(device: BlockDevice): Buffer {
  return Buffer.from([thresholdExponent(device), 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0x00]);
}

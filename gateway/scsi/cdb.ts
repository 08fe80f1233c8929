import type { Lba, SectorCount } from '../base/units.ts';
import { decodeCompareAndWrite, decodeOrWrite, decodeWriteAtomic } from './cdb-atomic.ts';
import { flag, lba21, protectionBits, readLba64 } from './cdb-fields.ts';
import {
  decodeExtendedCopy,
  decodeLogSense,
  decodeModeSelect,
  decodeReadDefectData,
  decodeReceiveCopyResults,
  decodeSanitize,
  decodeStartStop,
} from './cdb-unit.ts';
import { OPCODE, SERVICE_ACTION } from './constants.ts';
import { decodeLegacy10, decodeLegacy6, decodeReserveIn, decodeReserveOutCdb } from './reservations/cdb.ts';
import type { ReserveInAction } from './reservations/parameter-data.ts';
import type { ReserveOutCommand } from './reservations/parameter-list.ts';

/** How VERIFY and its kin compare (SBC-3): not at all, with as many sectors, or with one sector repeated. */
export type ByteCheck = 'none' | 'full' | 'repeated';

interface Extent {
  readonly lba: Lba;
  readonly sectors: SectorCount;
}

/** A decoded command descriptor block. */
export type Command =
  | { readonly kind: 'test-unit-ready' }
  | { readonly kind: 'request-sense'; readonly descriptor: boolean; readonly allocationLength: number }
  | { readonly kind: 'inquiry'; readonly vital: boolean; readonly page: number; readonly allocationLength: number }
  | (ModeSense & { readonly kind: 'mode-sense' })
  | { readonly kind: 'mode-select'; readonly ten: boolean; readonly parameterBytes: number }
  | (LogSense & { readonly kind: 'log-sense' })
  | (ReadDefectData & { readonly kind: 'read-defect-data' })
  | (StartStop & { readonly kind: 'start-stop' })
  | { readonly kind: 'prevent-allow'; readonly prevent: boolean }
  | { readonly kind: 'read-capacity-10' }
  | { readonly kind: 'read-capacity-16'; readonly allocationLength: number }
  | (Extent & { readonly kind: 'get-lba-status'; readonly allocationLength: number })
  | (Extent & { readonly kind: 'read'; readonly fua: boolean })
  | (Extent & { readonly kind: 'write'; readonly fua: boolean })
  | (Extent & { readonly kind: 'write-and-verify'; readonly byteCheck: ByteCheck })
  | (Extent & { readonly kind: 'verify'; readonly byteCheck: ByteCheck })
  | (Extent & { readonly kind: 'compare-and-write'; readonly fua: boolean })
  | (Extent & { readonly kind: 'or-write'; readonly fua: boolean })
  | (Extent & { readonly kind: 'write-atomic'; readonly fua: boolean })
  | (Extent & { readonly kind: 'prefetch'; readonly immediate: boolean })
  | (Extent & { readonly kind: 'synchronize-cache' })
  | (Extent & { readonly kind: 'write-same'; readonly unmap: boolean; readonly noData: boolean })
  | { readonly kind: 'unmap'; readonly parameterBytes: number }
  | (Sanitize & { readonly kind: 'sanitize' })
  | { readonly kind: 'extended-copy'; readonly parameterBytes: number }
  | (CopyResults & { readonly kind: 'copy-results' })
  | { readonly kind: 'persistent-reserve-in'; readonly action: ReserveInAction; readonly allocationLength: number }
  | (ReserveOutCommand & { readonly kind: 'persistent-reserve-out' })
  | { readonly kind: 'reserve' | 'release' }
  | { readonly kind: 'report-target-port-groups'; readonly extended: boolean; readonly allocationLength: number }
  | { readonly kind: 'report-luns'; readonly select: number; readonly allocationLength: number }
  | (ReportOpcodes & { readonly kind: 'report-opcodes' })
  | { readonly kind: 'report-task-management'; readonly extended: boolean; readonly allocationLength: number };

export interface ModeSense {
  readonly ten: boolean;
  readonly noBlockDescriptor: boolean;
  readonly longLba: boolean;
  readonly pageControl: number;
  readonly page: number;
  readonly subpage: number;
  readonly allocationLength: number;
}

export interface LogSense {
  readonly pageControl: number;
  readonly page: number;
  readonly subpage: number;
  readonly parameterPointer: number;
  readonly allocationLength: number;
}

export interface ReadDefectData {
  readonly twelve: boolean;
  /** PLIST and GLIST bits (10h, 08h), as they are given back. */
  readonly lists: number;
  readonly format: number;
  readonly allocationLength: number;
}

export interface StartStop {
  readonly powerCondition: number;
  readonly noFlush: boolean;
  /** LOEJ. */
  readonly eject: boolean;
  readonly start: boolean;
}

export type SanitizeMethod = 'overwrite' | 'block-erase' | 'cryptographic-erase';

export interface Sanitize {
  readonly action: SanitizeMethod | 'exit-failure-mode';
  readonly immediate: boolean;
  /** AUSE: whether EXIT FAILURE MODE may end what a failure leaves behind. */
  readonly mayFail: boolean;
  readonly parameterBytes: number;
}

export interface CopyResults {
  readonly results: 'status' | 'data' | 'operating-parameters' | 'failed-segment';
  readonly listId: number;
  readonly allocationLength: number;
}

export interface ReportOpcodes {
  readonly options: number;
  readonly timeouts: boolean;
  readonly opcode: number;
  readonly serviceAction: number;
  readonly allocationLength: number;
}

/** Why a CDB was refused: `byte` and `bit` point at the field in error. */
export type BadCdb =
  | { readonly kind: 'unknown-opcode' }
  | { readonly kind: 'invalid-field'; readonly byte: number; readonly bit?: number };

type Decoded = Command | BadCdb;

const UNKNOWN: BadCdb = { kind: 'unknown-opcode' };

/** How long a CDB of this opcode is (SPC-4); group 3 has variable or vendor lengths and is not used here. */
export function cdbLength(opcode: number): number {
  switch (opcode >> 5) {
    case 0:
      return 6;
    case 1:
    case 2:
      return 10;
    case 4:
      return 16;
    case 5:
      return 12;
    default:
      return 0;
  }
}

/**
 * Decodes the CDB at the start of `cdb` (at least 16 bytes, unused ones being padding). Never fails:
 * what it does not know or accept is a BadCdb. LBAs above 2^53 lose precision, but are beyond any device anyway.
 */
export function decodeCdb(cdb: Buffer): Decoded {
  const opcode = cdb.readUInt8(0);
  const length = cdbLength(opcode);
  // NACA: this device does not establish an auto contingent allegiance (SAM-5 5.2).
  if (length > 0 && (cdb.readUInt8(length - 1) & 0x04) !== 0)
    return { kind: 'invalid-field', byte: length - 1, bit: 2 };
  switch (opcode) {
    case OPCODE.read10:
      return decodeRead(cdb, cdb.readUInt32BE(2), cdb.readUInt16BE(7));
    case OPCODE.write10:
      return decodeWrite(cdb, cdb.readUInt32BE(2), cdb.readUInt16BE(7));
    case OPCODE.read16:
      return decodeRead(cdb, readLba64(cdb, 2), cdb.readUInt32BE(10));
    case OPCODE.write16:
      return decodeWrite(cdb, readLba64(cdb, 2), cdb.readUInt32BE(10));
    case OPCODE.read12:
      return decodeRead(cdb, cdb.readUInt32BE(2), cdb.readUInt32BE(6));
    case OPCODE.write12:
      return decodeWrite(cdb, cdb.readUInt32BE(2), cdb.readUInt32BE(6));
    case OPCODE.read6:
      return { kind: 'read', lba: lba21(cdb), sectors: cdb.readUInt8(4) || 256, fua: false };
    case OPCODE.write6:
      return { kind: 'write', lba: lba21(cdb), sectors: cdb.readUInt8(4) || 256, fua: false };
    case OPCODE.synchronizeCache10:
      return { kind: 'synchronize-cache', lba: cdb.readUInt32BE(2), sectors: cdb.readUInt16BE(7) };
    case OPCODE.synchronizeCache16:
      return { kind: 'synchronize-cache', lba: readLba64(cdb, 2), sectors: cdb.readUInt32BE(10) };
    case OPCODE.writeAndVerify10:
    case OPCODE.verify10:
      return decodeVerify(cdb, cdb.readUInt32BE(2), cdb.readUInt16BE(7));
    case OPCODE.writeAndVerify12:
    case OPCODE.verify12:
      return decodeVerify(cdb, cdb.readUInt32BE(2), cdb.readUInt32BE(6));
    case OPCODE.writeAndVerify16:
    case OPCODE.verify16:
      return decodeVerify(cdb, readLba64(cdb, 2), cdb.readUInt32BE(10));
    case OPCODE.prefetch10:
      return { kind: 'prefetch', lba: cdb.readUInt32BE(2), sectors: cdb.readUInt16BE(7), immediate: flag(cdb, 1, 1) };
    case OPCODE.prefetch16:
      return { kind: 'prefetch', lba: readLba64(cdb, 2), sectors: cdb.readUInt32BE(10), immediate: flag(cdb, 1, 1) };
    case OPCODE.compareAndWrite:
      return decodeCompareAndWrite(cdb);
    case OPCODE.orWrite16:
      return decodeOrWrite(cdb);
    case OPCODE.writeAtomic16:
      return decodeWriteAtomic(cdb);
    case OPCODE.writeSame10:
      return decodeWriteSame(cdb, cdb.readUInt32BE(2), cdb.readUInt16BE(7));
    case OPCODE.writeSame16:
      return decodeWriteSame(cdb, readLba64(cdb, 2), cdb.readUInt32BE(10));
    case OPCODE.unmap:
      return decodeUnmap(cdb);
    case OPCODE.testUnitReady:
      return { kind: 'test-unit-ready' };
    case OPCODE.requestSense:
      return { kind: 'request-sense', descriptor: flag(cdb, 1, 0), allocationLength: cdb.readUInt8(4) };
    case OPCODE.inquiry:
      return decodeInquiry(cdb);
    case OPCODE.modeSense6:
    case OPCODE.modeSense10:
      return decodeModeSense(cdb);
    case OPCODE.modeSelect6:
    case OPCODE.modeSelect10:
      return decodeModeSelect(cdb);
    case OPCODE.logSense:
      return decodeLogSense(cdb);
    case OPCODE.readDefectData10:
    case OPCODE.readDefectData12:
      return decodeReadDefectData(cdb);
    case OPCODE.startStopUnit:
      return decodeStartStop(cdb);
    case OPCODE.sanitize:
      return decodeSanitize(cdb);
    case OPCODE.extendedCopy:
      return decodeExtendedCopy(cdb);
    case OPCODE.receiveCopyResults:
      return decodeReceiveCopyResults(cdb);
    case OPCODE.preventAllow:
      return { kind: 'prevent-allow', prevent: flag(cdb, 4, 0) };
    case OPCODE.readCapacity10:
      return decodeReadCapacity10(cdb);
    case OPCODE.serviceActionIn16:
      return decodeServiceActionIn(cdb);
    case OPCODE.persistentReserveIn:
      return decodeReserveIn(cdb);
    case OPCODE.persistentReserveOut:
      return decodeReserveOutCdb(cdb);
    case OPCODE.reserve6:
      return decodeLegacy6('reserve', cdb);
    case OPCODE.release6:
      return decodeLegacy6('release', cdb);
    case OPCODE.reserve10:
      return decodeLegacy10('reserve', cdb);
    case OPCODE.release10:
      return decodeLegacy10('release', cdb);
    case OPCODE.reportLuns:
      return { kind: 'report-luns', select: cdb.readUInt8(2), allocationLength: cdb.readUInt32BE(6) };
    case OPCODE.maintenanceIn:
      return decodeMaintenanceIn(cdb);
    default:
      return UNKNOWN;
  }
}

/** READ (10), (12), (16): SBC-3. RDPROTECT must be 0: there is no protection information. */
function decodeRead(cdb: Buffer, lba: Lba, sectors: SectorCount): Decoded {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  return { kind: 'read', lba, sectors, fua: flag(cdb, 1, 3) };
}

/** WRITE (10), (12), (16): SBC-3. */
function decodeWrite(cdb: Buffer, lba: Lba, sectors: SectorCount): Decoded {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  return { kind: 'write', lba, sectors, fua: flag(cdb, 1, 3) };
}

/** VERIFY and WRITE AND VERIFY (10), (12), (16): SBC-3. */
function decodeVerify(cdb: Buffer, lba: Lba, sectors: SectorCount): Decoded {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  const opcode = cdb.readUInt8(0);
  const writes =
    opcode === OPCODE.writeAndVerify10 || opcode === OPCODE.writeAndVerify12 || opcode === OPCODE.writeAndVerify16;
  const kind = writes ? 'write-and-verify' : 'verify';
  switch ((cdb.readUInt8(1) >> 1) & 0x03) {
    case 0:
      return { kind, lba, sectors, byteCheck: 'none' };
    case 1:
      return { kind, lba, sectors, byteCheck: 'full' };
    case 3:
      // Comparing with one repeated sector is for VERIFY alone.
      return writes ? { kind: 'invalid-field', byte: 1, bit: 2 } : { kind, lba, sectors, byteCheck: 'repeated' };
    default:
      return { kind: 'invalid-field', byte: 1, bit: 2 };
  }
}

/** WRITE SAME (10), (16): SBC-3. NDOB exists in the longer one only. */
function decodeWriteSame(cdb: Buffer, lba: Lba, sectors: SectorCount): Decoded {
  if (protectionBits(cdb)) return { kind: 'invalid-field', byte: 1, bit: 7 };
  const anchor = flag(cdb, 1, 4);
  if (anchor) return { kind: 'invalid-field', byte: 1, bit: 4 };
  const noData = flag(cdb, 1, 0);
  if (noData && cdb.readUInt8(0) === OPCODE.writeSame10) return { kind: 'invalid-field', byte: 1, bit: 0 };
  return { kind: 'write-same', lba, sectors, unmap: flag(cdb, 1, 3), noData };
}

/** UNMAP: SBC-3. No anchored state here. */
function decodeUnmap(cdb: Buffer): Decoded {
  if (flag(cdb, 1, 0)) return { kind: 'invalid-field', byte: 1, bit: 0 };
  return { kind: 'unmap', parameterBytes: cdb.readUInt16BE(7) };
}

/** INQUIRY: SPC-4 6.6. A page code needs EVPD. */
function decodeInquiry(cdb: Buffer): Decoded {
  const vital = flag(cdb, 1, 0);
  const page = cdb.readUInt8(2);
  if (flag(cdb, 1, 1)) return { kind: 'invalid-field', byte: 1, bit: 1 };
  if (!vital && page !== 0) return { kind: 'invalid-field', byte: 2, bit: 7 };
  return { kind: 'inquiry', vital, page, allocationLength: cdb.readUInt16BE(3) };
}

/** MODE SENSE (6), (10): SPC-4 6.13, 6.14. */
function decodeModeSense(cdb: Buffer): Command {
  const ten = cdb.readUInt8(0) === OPCODE.modeSense10;
  return {
    kind: 'mode-sense',
    ten,
    noBlockDescriptor: flag(cdb, 1, 3),
    longLba: ten && flag(cdb, 1, 4),
    pageControl: cdb.readUInt8(2) >> 6,
    page: cdb.readUInt8(2) & 0x3f,
    subpage: cdb.readUInt8(3),
    allocationLength: ten ? cdb.readUInt16BE(7) : cdb.readUInt8(4),
  };
}

/** READ CAPACITY (10): SBC-3. An LBA without PMI is an error. */
function decodeReadCapacity10(cdb: Buffer): Decoded {
  const partial = flag(cdb, 8, 0);
  if (!partial && cdb.readUInt32BE(2) !== 0) return { kind: 'invalid-field', byte: 2, bit: 7 };
  return { kind: 'read-capacity-10' };
}

/** SERVICE ACTION IN (16): READ CAPACITY (16) and GET LBA STATUS (SBC-3). */
function decodeServiceActionIn(cdb: Buffer): Decoded {
  const allocationLength = cdb.readUInt32BE(10);
  switch (cdb.readUInt8(1) & 0x1f) {
    case SERVICE_ACTION.readCapacity16:
      return { kind: 'read-capacity-16', allocationLength };
    case SERVICE_ACTION.getLbaStatus:
      return { kind: 'get-lba-status', lba: readLba64(cdb, 2), sectors: 1, allocationLength };
    default:
      return { kind: 'invalid-field', byte: 1, bit: 4 };
  }
}

/** MAINTENANCE IN: REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-4 6.35, 6.36). */
function decodeMaintenanceIn(cdb: Buffer): Decoded {
  const allocationLength = cdb.readUInt32BE(6);
  switch (cdb.readUInt8(1) & 0x1f) {
    case SERVICE_ACTION.reportSupportedOperationCodes:
      return {
        kind: 'report-opcodes',
        timeouts: flag(cdb, 2, 7),
        options: cdb.readUInt8(2) & 0x07,
        opcode: cdb.readUInt8(3),
        serviceAction: cdb.readUInt16BE(4),
        allocationLength,
      };
    case SERVICE_ACTION.reportTargetPortGroups: {
      const format = cdb.readUInt8(1) >> 5;
      if (format > 1) return { kind: 'invalid-field', byte: 1, bit: 7 };
      return { kind: 'report-target-port-groups', extended: format === 1, allocationLength };
    }
    case SERVICE_ACTION.reportSupportedTaskManagement:
      return { kind: 'report-task-management', extended: flag(cdb, 2, 7), allocationLength };
    default:
      return { kind: 'invalid-field', byte: 1, bit: 4 };
  }
}

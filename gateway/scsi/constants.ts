/** Status codes (SAM-5 5.3.1). */
export const STATUS = {
  good: 0x00,
  checkCondition: 0x02,
  conditionMet: 0x04,
  busy: 0x08,
  reservationConflict: 0x18,
  taskSetFull: 0x28,
  taskAborted: 0x40,
} as const;

/** Operation codes (SPC-4 D.3, SBC-3 table 19). */
export const OPCODE = {
  testUnitReady: 0x00,
  requestSense: 0x03,
  read6: 0x08,
  write6: 0x0a,
  inquiry: 0x12,
  modeSense6: 0x1a,
  startStopUnit: 0x1b,
  preventAllow: 0x1e,
  readCapacity10: 0x25,
  read10: 0x28,
  write10: 0x2a,
  writeAndVerify10: 0x2e,
  verify10: 0x2f,
  prefetch10: 0x34,
  synchronizeCache10: 0x35,
  writeSame10: 0x41,
  unmap: 0x42,
  modeSense10: 0x5a,
  read16: 0x88,
  write16: 0x8a,
  writeAndVerify16: 0x8e,
  verify16: 0x8f,
  prefetch16: 0x90,
  synchronizeCache16: 0x91,
  writeSame16: 0x93,
  serviceActionIn16: 0x9e,
  reportLuns: 0xa0,
  maintenanceIn: 0xa3,
  read12: 0xa8,
  write12: 0xaa,
  writeAndVerify12: 0xae,
  verify12: 0xaf,
} as const;

/** Service actions of SERVICE ACTION IN (16) (SBC-3) and MAINTENANCE IN (SPC-4). */
export const SERVICE_ACTION = {
  readCapacity16: 0x10,
  getLbaStatus: 0x12,
  reportSupportedOperationCodes: 0x0c,
  reportSupportedTaskManagement: 0x0d,
} as const;

/** Highest LUN that the peripheral device addressing method can name (SAM-5 4.7.7.2). */
export const MAX_LUN = 255;

/** One constant for every LUN: ESXi offloads copies only between equal ones. */
export const VENDOR_ID = 'FARSHORE';
export const PRODUCT_ID = 'Virtual Disk';

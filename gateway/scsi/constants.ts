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

/** Operation codes (SPC-4, SBC-3). */
export const OPCODE = {
  testUnitReady: 0x00,
  requestSense: 0x03,
  read6: 0x08,
  write6: 0x0a,
  inquiry: 0x12,
  modeSelect6: 0x15,
  reserve6: 0x16,
  release6: 0x17,
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
  readDefectData10: 0x37,
  writeSame10: 0x41,
  unmap: 0x42,
  sanitize: 0x48,
  logSense: 0x4d,
  modeSelect10: 0x55,
  reserve10: 0x56,
  release10: 0x57,
  modeSense10: 0x5a,
  persistentReserveIn: 0x5e,
  persistentReserveOut: 0x5f,
  extendedCopy: 0x83,
  receiveCopyResults: 0x84,
  read16: 0x88,
  compareAndWrite: 0x89,
  write16: 0x8a,
  orWrite16: 0x8b,
  writeAndVerify16: 0x8e,
  verify16: 0x8f,
  prefetch16: 0x90,
  synchronizeCache16: 0x91,
  writeSame16: 0x93,
  writeAtomic16: 0x9c,
  serviceActionIn16: 0x9e,
  reportLuns: 0xa0,
  maintenanceIn: 0xa3,
  read12: 0xa8,
  write12: 0xaa,
  writeAndVerify12: 0xae,
  verify12: 0xaf,
  readDefectData12: 0xb7,
} as const;

/** Service actions of SERVICE ACTION IN (16), SANITIZE (SBC-3), MAINTENANCE IN and third-party copies (SPC-4). */
export const SERVICE_ACTION = {
  readCapacity16: 0x10,
  getLbaStatus: 0x12,
  reportTargetPortGroups: 0x0a,
  reportSupportedOperationCodes: 0x0c,
  reportSupportedTaskManagement: 0x0d,
  sanitizeOverwrite: 0x01,
  sanitizeBlockErase: 0x02,
  sanitizeCryptographicErase: 0x03,
  sanitizeExitFailureMode: 0x1f,
  extendedCopyLid1: 0x00,
  copyStatusLid1: 0x00,
  copyDataLid1: 0x01,
  copyOperatingParameters: 0x03,
  failedSegmentDetails: 0x04,
} as const;

/** Highest LUN that the peripheral device addressing method can name (SAM-5 4.7.7.2). */
export const MAX_LUN = 255;

/** The port of a target and the target port group it is in (SPC-4); every target has one. */
export const RELATIVE_TARGET_PORT = 1;
export const TARGET_PORT_GROUP = 1;

/** One constant for every LUN: ESXi offloads copies only between equal ones. */
export const VENDOR_ID = 'FARSHORE';
export const PRODUCT_ID = 'Virtual Disk';

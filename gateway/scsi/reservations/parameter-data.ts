import { RELATIVE_TARGET_PORT } from '../constants.ts';
import { isAllRegistrants, isHolderRegistration } from './registry.ts';
import type { Registration, Registry } from './registry.ts';
import { encodeTransportId } from './transport-id.ts';

/** Service actions of PERSISTENT RESERVE IN (SPC-4 6.15.1). */
export type ReserveInAction = 'read-keys' | 'read-reservation' | 'report-capabilities' | 'read-full-status';

/** The parameter data of PERSISTENT RESERVE IN, whole; whoever asked may take less. */
export function encodeReserveIn(action: ReserveInAction, registry: Registry, canPersist: boolean): Buffer {
  switch (action) {
    case 'read-keys':
      return withHeader(
        registry,
        registry.registrations.map(({ key }) => encodeKey(key)),
      );
    case 'read-reservation':
      return withHeader(registry, readReservation(registry));
    case 'report-capabilities':
      return reportCapabilities(registry, canPersist);
    case 'read-full-status':
      return withHeader(
        registry,
        registry.registrations.map((registration) => fullStatus(registry, registration)),
      );
  }
}

/** PRGENERATION and ADDITIONAL LENGTH, then what is listed. */
function withHeader(registry: Registry, items: readonly Buffer[]): Buffer {
  const body = Buffer.concat(items);
  const header = Buffer.alloc(8);
  header.writeUInt32BE(registry.generation, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

function encodeKey(key: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(key, 0);
  return bytes;
}

/** READ RESERVATION (SPC-4 6.15.3): the key is 0 when every registrant holds it. */
function readReservation(registry: Registry): Buffer[] {
  const { reservation } = registry;
  if (reservation === undefined) return [];
  const holder = isAllRegistrants(reservation.type)
    ? undefined
    : registry.registrations.find((registration) => isHolderRegistration(registry, registration));
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(holder?.key ?? 0n, 0);
  bytes[13] = reservation.type; // LU_SCOPE is 0
  return [bytes];
}

/** ALLOW COMMANDS 100b (SPC-4 table 208): what table 65 allows with footnote b is allowed here. */
const ALLOW_COMMANDS = 0b100;

/** REPORT CAPABILITIES (SPC-4 6.15.4). */
function reportCapabilities(registry: Registry, canPersist: boolean): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16BE(bytes.length, 0);
  bytes[2] = 0x10 | 0x08 | 0x04 | (canPersist ? 0x01 : 0); // CRH, SIP_C, ATP_C, PTPL_C
  bytes[3] = 0x80 | (ALLOW_COMMANDS << 4) | (registry.persists ? 0x01 : 0); // TMV, PTPL_A
  bytes[4] = 0x80 | 0x40 | 0x20 | 0x08 | 0x02; // WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX
  bytes[5] = 0x01; // EX_AC_AR
  return bytes;
}

/** One descriptor of READ FULL STATUS (SPC-4 6.15.5). */
function fullStatus(registry: Registry, registration: Registration): Buffer {
  const transportId = encodeTransportId(registration.initiator);
  const bytes = Buffer.alloc(24);
  bytes.writeBigUInt64BE(registration.key, 0);
  const allTargetPorts = registration.target === undefined;
  if (allTargetPorts) bytes[12] = 0x02;
  else bytes.writeUInt16BE(RELATIVE_TARGET_PORT, 18);
  if (registry.reservation !== undefined && isHolderRegistration(registry, registration)) {
    bytes.writeUInt8(bytes.readUInt8(12) | 0x01, 12);
    bytes[13] = registry.reservation.type;
  }
  bytes.writeUInt32BE(transportId.length, 20);
  return Buffer.concat([bytes, transportId]);
}

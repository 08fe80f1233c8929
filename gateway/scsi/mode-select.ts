import type { UnitNexus } from './logical-unit.ts';
import { GOOD } from './result.ts';
import type { ScsiResult } from './result.ts';
import { SENSE, checkCondition, invalidParameterField } from './sense.ts';
import { provisioningModePage } from './thresholds.ts';

const SHORT_DESCRIPTOR_BYTES = 8;
const LONG_DESCRIPTOR_BYTES = 16;
/** The page has a subpage code, and a length of two bytes. */
const SPF = 0x40;

/**
 * MODE SELECT (6), (10): SPC-4 6.11, 6.12. Everything is checked before anything is changed, and the other initiators
 * are told of a change.
 */
export function modeSelect(nexus: UnitNexus, command: { readonly ten: boolean }, parameters: Buffer): ScsiResult {
  if (parameters.length === 0) return GOOD;
  const { mode } = nexus.unit.media;
  const headerBytes = command.ten ? 8 : 4;
  if (parameters.length < headerBytes) return checkCondition(SENSE.parameterListLength);
  const mediumTypeAt = command.ten ? 2 : 1;
  if (parameters[mediumTypeAt] !== 0) return invalidParameterField(mediumTypeAt);
  const descriptorBytes = command.ten ? parameters.readUInt16BE(6) : parameters.readUInt8(3);
  const long = command.ten && (parameters.readUInt8(4) & 0x01) !== 0;
  if (descriptorBytes !== 0) {
    const expected = long ? LONG_DESCRIPTOR_BYTES : SHORT_DESCRIPTOR_BYTES;
    if (descriptorBytes !== expected) return invalidParameterField(command.ten ? 6 : 3);
    if (parameters.length < headerBytes + expected) return checkCondition(SENSE.parameterListLength);
    const fault = descriptorFault(nexus, parameters.subarray(headerBytes, headerBytes + expected));
    if (fault !== undefined) return invalidParameterField(headerBytes + fault);
  }
  const pages: Buffer[] = [];
  for (let at = headerBytes + descriptorBytes; at < parameters.length;) {
    const isSubpage = ((parameters[at] ?? 0) & SPF) !== 0;
    if (at + (isSubpage ? 4 : 2) > parameters.length) return checkCondition(SENSE.parameterListLength);
    const bytes = isSubpage ? 4 + parameters.readUInt16BE(at + 2) : 2 + parameters.readUInt8(at + 1);
    if (at + bytes > parameters.length) return checkCondition(SENSE.parameterListLength);
    const sent = parameters.subarray(at, at + bytes);
    const fault = mode.fault(sent, provisioningModePage(nexus.unit.device));
    if (fault !== undefined) return invalidParameterField(at + fault);
    pages.push(sent);
    at += bytes;
  }
  const changes = pages.map((sent) => mode.apply(sent));
  if (changes.includes(true)) nexus.unit.raiseForAll(SENSE.modeParametersChanged, nexus);
  return GOOD;
}

/** Neither the capacity nor the length of a block can be changed (SBC-3); 0 and all ones mean "as it is". */
function descriptorFault(nexus: UnitNexus, descriptor: Buffer): number | undefined {
  const { sectors, sectorSize } = nexus.unit.geometry();
  const long = descriptor.length === LONG_DESCRIPTOR_BYTES;
  const count = long ? Number(descriptor.readBigUInt64BE(0)) : descriptor.readUInt32BE(0);
  const unchanged = count === 0 || count === sectors || (!long && count === 0xffff_ffff);
  if (!unchanged && count !== 2 ** 64) return 0;
  const sizeAt = long ? 12 : 4;
  const size = long ? descriptor.readUInt32BE(12) : descriptor.readUInt32BE(4) & 0x00ff_ffff;
  return size === sectorSize ? undefined : sizeAt;
}

import { MIB } from '../../base/units.ts';
import type { ByteCount } from '../../base/units.ts';

/** What OPERATING PARAMETERS and VPD page 8Fh say of third-party copies (SPC-4 6.23). */
export const MAX_CSCD_DESCRIPTORS = 16;
export const MAX_SEGMENT_DESCRIPTORS = 64;
export const CSCD_DESCRIPTOR_BYTES: ByteCount = 32;
export const SEGMENT_DESCRIPTOR_BYTES: ByteCount = 28;
export const MAX_DESCRIPTOR_LIST_BYTES: ByteCount =
  MAX_CSCD_DESCRIPTORS * CSCD_DESCRIPTOR_BYTES + MAX_SEGMENT_DESCRIPTORS * SEGMENT_DESCRIPTOR_BYTES;

/** Longest segment: an initiator's patience, and what an abort may have to wait for, are short. */
export const MAX_SEGMENT_BYTES: ByteCount = 64 * MIB;

/** Copies of one initiator at one unit at a time; further ones are told BUSY. */
export const MAX_CONCURRENT_COPIES = 16;

/** Outcomes kept for an initiator until it asks for them; the oldest gives way. */
export const MAX_KEPT_OUTCOMES = 64;

/** Copying goes by multiples of a physical block where it can: 2 to the 12th. */
export const SEGMENT_GRANULARITY_LOG2 = 12;

/** Descriptor type codes (SPC-4 6.4). */
export const BLOCK_TO_BLOCK = 0x02;
export const IDENTIFICATION = 0xe4;

/** CSCD identifier of the logical unit that has been given the command (SPC-4 6.4). */
export const OWN_UNIT = 0xf800;

import { KIB, MIB } from '../../gateway/base/units.ts';
import type { ChapRequirement } from '../../gateway/iscsi/target-registry.ts';

/** What both sides of the fuzzer know: who there is, what each may use, and what nobody else may ever see. */

const PREFIX = 'iqn.2026-11.dev.farshore.fuzz';

/** Both initiators may use it, each with LUNs of its own. */
export const SHARED_TARGET = `${PREFIX}:shared`;
/** For the witness alone. */
export const PRIVATE_TARGET = `${PREFIX}:private`;

export const FUZZER = `${PREFIX}:fuzzer`;
export const WITNESS = `${PREFIX}:witness`;

function chap(name: string): ChapRequirement {
  return {
    initiator: { user: `${name}-user`, secret: Buffer.from(`${name}-initiator-secret`) },
    target: { user: `${name}-target`, secret: Buffer.from(`${name}-target-secret`) },
  };
}

export const FUZZER_CHAP = chap('fuzzer');
export const WITNESS_CHAP = chap('witness');

/** Fills every sector of the witness's LUNs, and is nowhere in what the fuzzer sends: it must never receive it. */
export const MARKER = Buffer.from('~witness-bytes~!', 'latin1');

export const SECTOR_BYTES = 512;

/** LUNs of the fuzzer in the shared target. */
export const FUZZER_LUNS = { plain: 0, large: 1, readOnly: 2, reserved: 3 } as const;
export const FUZZER_LUN_BYTES = 2 * MIB;
/** LUNs of the witness: one in its own target, two in the shared one, where the fuzzer has none or another. */
export const WITNESS_LUN_BYTES = 256 * KIB;
export const WITNESS_SECTORS = WITNESS_LUN_BYTES / SECTOR_BYTES;
export const MASKED_LUN = 9;

/** What a sector of the witness holds: its place and how often it was written, and the marker up to the end. */
export function witnessSector(lba: number, version: number): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES, MARKER);
  sector.write(`${lba}/${version}`.padEnd(MARKER.length), MARKER.length, 'latin1');
  return sector;
}

/** Where the server is, sent once by its process. */
export interface TargetReady {
  readonly kind: 'ready';
  readonly port: number;
}

/** What the server's process holds at a moment when nobody but the witnesses should be connected. */
export interface TargetState {
  readonly kind: 'state';
  readonly connections: number;
  readonly sessions: number;
  readonly writeBytes: number;
  readonly readBytes: number;
  readonly heapBytes: number;
  readonly handles: number;
  /** Of the LUN that the fuzzer may only read. */
  readonly readOnlyDigest: string;
}

export type FromTarget = TargetReady | TargetState;
export type ToTarget = { readonly kind: 'state' } | { readonly kind: 'stop' };

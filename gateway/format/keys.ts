import { invariant } from '../base/errors.ts';
import type { Epoch, SegmentNumber, VersionNumber } from '../base/units.ts';
import { MAX_SEGMENT_NUMBER, requireId } from './ids.ts';

/** Longest key that these functions make. */
export const MAX_KEY_BYTES = 255;

/** What an object key says. */
export type ObjectName =
  | { readonly kind: 'segment'; readonly lineage: string; readonly number: SegmentNumber }
  | ({ readonly kind: 'checkpoint' | 'run' } & MaintenanceName)
  | ({ readonly kind: 'shard'; readonly shard: number } & MaintenanceName)
  | {
      readonly kind: 'manifest';
      readonly lineage: string;
      readonly volume: string;
      readonly n: VersionNumber;
      readonly epoch: Epoch;
    };

/** Objects of maintenance carry the checkpoint sequence and the maintenance epoch they were made in. */
interface MaintenanceName {
  readonly lineage: string;
  readonly volume: string;
  readonly sequence: number;
  readonly maintenanceEpoch: number;
}

export function lineagePrefix(lineage: string): string {
  requireId(lineage, 'lineage');
  return `lineages/${lineage}/`;
}

export function segmentPrefix(lineage: string): string {
  return `${lineagePrefix(lineage)}segments/`;
}

export function volumePrefix(lineage: string, volume: string): string {
  requireId(volume, 'volume');
  return `${lineagePrefix(lineage)}volumes/${volume}/`;
}

export function segmentKey(lineage: string, number: SegmentNumber): string {
  invariant(number >= 1 && number <= MAX_SEGMENT_NUMBER, `segment number ${number} has 36 bits and is not 0`);
  return segmentPrefix(lineage) + hex(number, 9);
}

export function checkpointKey(lineage: string, volume: string, sequence: number, maintenanceEpoch: number): string {
  return `${volumePrefix(lineage, volume)}checkpoints/${hex(sequence, 16)}-${hex(maintenanceEpoch, 16)}`;
}

export function runKey(lineage: string, volume: string, sequence: number, maintenanceEpoch: number): string {
  return `${volumePrefix(lineage, volume)}runs/${hex(sequence, 16)}-${hex(maintenanceEpoch, 16)}`;
}

export function shardKey(
  lineage: string,
  volume: string,
  shard: number,
  sequence: number,
  maintenanceEpoch: number,
): string {
  return `${volumePrefix(lineage, volume)}shards/${hex(shard, 8)}/${hex(sequence, 16)}-${hex(maintenanceEpoch, 16)}`;
}

export function manifestKey(lineage: string, volume: string, epoch: Epoch, n: VersionNumber): string {
  return `${volumePrefix(lineage, volume)}manifests/${hex(n, 16)}-${hex(epoch, 16)}`;
}

function hex(value: number, digits: number): string {
  invariant(Number.isSafeInteger(value) && value >= 0, `${value} in a key is a non-negative integer`);
  const text = value.toString(16);
  invariant(text.length <= digits, `${value} in a key fits ${digits} hexadecimal digits`);
  return text.padStart(digits, '0');
}

const ID = '[A-Za-z0-9][A-Za-z0-9._-]{0,63}';
const SEGMENT_PATTERN = new RegExp(`^lineages/(${ID})/segments/([0-9a-f]{9})$`);
const VOLUME_PATTERN = new RegExp(
  `^lineages/(${ID})/volumes/(${ID})/(checkpoints|runs|manifests|shards/([0-9a-f]{8}))/([0-9a-f]{16})-([0-9a-f]{16})$`,
);

/** Undefined for a key that none of the functions above makes. */
export function parseKey(key: string): ObjectName | undefined {
  const segment = SEGMENT_PATTERN.exec(key);
  if (segment !== null) {
    const number = parseInt(segment[2] ?? '', 16);
    return number >= 1 ? { kind: 'segment', lineage: segment[1] ?? '', number } : undefined;
  }
  const match = VOLUME_PATTERN.exec(key);
  if (match === null) return undefined;
  const lineage = match[1] ?? '';
  const volume = match[2] ?? '';
  const first = parseInt(match[5] ?? '', 16);
  const second = parseInt(match[6] ?? '', 16);
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(second)) return undefined;
  const name = { lineage, volume, sequence: first, maintenanceEpoch: second };
  switch (match[3]) {
    case 'checkpoints':
      return { kind: 'checkpoint', ...name };
    case 'runs':
      return { kind: 'run', ...name };
    case 'manifests':
      return { kind: 'manifest', lineage, volume, n: first, epoch: second };
    default:
      return { kind: 'shard', shard: parseInt(match[4] ?? '', 16), ...name };
  }
}

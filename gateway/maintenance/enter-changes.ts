import type { VersionNumber } from '../base/units.ts';
import { segmentEntries } from '../format/segment-decode.ts';
import type { SegmentHeader } from '../format/segment-layout.ts';
import type { ChangeMap } from './change-map.ts';

/** Enters what a segment (of any number but 0) says of the map as the changes of version n. */
export function enterSegment(changes: ChangeMap, header: SegmentHeader, n: VersionNumber): void {
  for (const { block, count } of header.unmaps) changes.unmap(block, count, n);
  if (header.blocks === 0) return;
  const { blocks, entries } = segmentEntries(header);
  for (let at = 0; at < blocks.length; at += 1) {
    changes.set(blocks[at] ?? 0, entries[2 * at] ?? 0, entries[2 * at + 1] ?? 0, n);
  }
}

import { blockAt, isDescriptor, kindAt, newTable, seqAt, volumeAt, wordsOf } from '../../gateway/cache/descriptor.ts';
import { decodeChunkHeader } from '../../gateway/cache/chunk-header.ts';
import {
  chunkGeometry,
  chunkOfName,
  descriptorPosition,
  slotPosition,
  TABLE_OFFSET,
} from '../../gateway/cache/layout.ts';
import type { SimDisk } from '../sim/sim-disk.ts';
import type { SimFile } from '../sim/sim-file.ts';

export interface FoundRecord {
  readonly path: string;
  readonly slot: number;
  readonly seq: number;
  readonly block: number;
  readonly kind: number;
  readonly volume: number;
}

/** Every record in the chunks of a simulated disk. */
export function recordsOn(disk: SimDisk, chunkSlots: number): FoundRecord[] {
  const geometry = chunkGeometry(chunkSlots);
  const found: FoundRecord[] = [];
  const header = Buffer.alloc(4096);
  const table = newTable(geometry.tableBytes);
  for (const path of disk.paths()) {
    const file = disk.file(path);
    if (file === undefined || chunkOfName(path.slice('cache/'.length)) === undefined) continue;
    header.fill(0);
    file.read(header, 0);
    const generation = decodeChunkHeader(header)?.generation ?? 0;
    table.fill(0);
    file.read(table, TABLE_OFFSET);
    const words = wordsOf(table);
    for (let slot = geometry.firstSlot; slot < geometry.slots; slot++) {
      if (!isDescriptor(words, slot, generation, slot)) continue;
      found.push({
        path,
        slot,
        seq: seqAt(words, slot),
        block: blockAt(words, slot),
        kind: kindAt(words, slot),
        volume: volumeAt(words, slot),
      });
    }
  }
  return found.sort((a, b) => a.seq - b.seq);
}

/** Makes the record's descriptor unreadable. */
export function spoilDescriptor(disk: SimDisk, { path, slot }: FoundRecord): void {
  fileAt(disk, path).flipBit(descriptorPosition(slot) + 9, 3);
}

/** Changes a bit of the record's data. */
export function spoilData(disk: SimDisk, { path, slot }: FoundRecord): void {
  fileAt(disk, path).flipBit(slotPosition(slot) + 1234, 5);
}

function fileAt(disk: SimDisk, path: string): SimFile {
  const file = disk.file(path);
  if (file === undefined) throw new Error(`there is no ${path}`);
  return file;
}

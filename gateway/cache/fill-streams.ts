import type { Chunk } from './chunk.ts';

/**
 * Fills are appended to two chunks at a time (what was fetched, and what reclaim moved on), so the keys of one volume rise within a chunk, but
 * chunks may overlap. Answers the chunks with fills of the volume as rows in each of which keys only rise: to be merged by key.
 */
export function rowsOfFills(chunks: Iterable<Chunk>, volume: number): Chunk[][] {
  const spans = [...chunks].flatMap((chunk) => {
    const share = chunk.shares.get(volume);
    return share === undefined || share.maxSeq > 0 ? [] : [{ chunk, from: share.minKey, through: share.maxKey }];
  });
  spans.sort((a, b) => a.from - b.from || a.through - b.through || a.chunk.generation - b.chunk.generation);
  const rows: { through: number; readonly chunks: Chunk[] }[] = [];
  for (const { chunk, from, through } of spans) {
    const row = rows.find((candidate) => candidate.through <= from);
    if (row === undefined) rows.push({ through, chunks: [chunk] });
    else {
      row.through = through;
      row.chunks.push(chunk);
    }
  }
  return rows.map((row) => row.chunks);
}

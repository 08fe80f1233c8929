import { describe, expect, it } from 'vitest';
import type { CheckpointMap } from '../../../gateway/maintenance/map-reader.ts';
import { SHARD_WORDS } from '../../../gateway/maintenance/map-reader.ts';
import { VolumeMap } from '../../../gateway/maintenance/volume-map.ts';

/** A checkpoint as of version n whose only mapped block, 7, has this packed entry. */
function checkpoint(n: number, low: number): CheckpointMap {
  const loadShard = (): Promise<Uint32Array> => {
    const entries = new Uint32Array(SHARD_WORDS);
    entries[15] = low;
    return Promise.resolve(entries);
  };
  return { n, loadShard, nextShard: () => Promise.resolve(undefined) } as unknown as CheckpointMap; // all that the map asks of it
}

const lowOf = async (map: VolumeMap): Promise<number | undefined> => (await map.entries(7, 1))[1];

describe('the map of a volume', () => {
  it('carries cached shards over to a checkpoint whose versions it knows all', async () => {
    const map = new VolumeMap(checkpoint(1, 10), 2 ** 20);
    expect(await lowOf(map)).toBe(10);
    map.commit(2, (changes) => {
      changes.set(7, 0, 20, 2);
    });
    map.adopt(checkpoint(2, 99)); // would be seen if the shard were loaded anew
    expect(await lowOf(map)).toBe(20);
  });

  it('forgets them when the checkpoint holds versions that it has not heard of yet', async () => {
    const map = new VolumeMap(checkpoint(1, 10), 2 ** 20);
    expect(await lowOf(map)).toBe(10);
    // Versions 2 and 3 have landed in the table and were folded; the answers to their puts are still on the way.
    map.adopt(checkpoint(3, 30));
    for (const n of [2, 3]) {
      map.commit(n, (changes) => {
        changes.set(7, 0, n * 10, n);
      });
    }
    expect(await lowOf(map)).toBe(30);
  });
});

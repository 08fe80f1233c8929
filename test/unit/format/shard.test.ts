import { beforeAll, describe, expect, it } from 'vitest';
import type { Compression } from '../../../gateway/format/compression.ts';
import { loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import { packEntry } from '../../../gateway/format/map-entry.ts';
import { decodeShard, decodeShardSummary, encodeShard } from '../../../gateway/format/shard.ts';
import { buildShard } from '../../golden/builder.ts';
import type { ShardParts } from '../../golden/builder.ts';
import { SHARD, SHARD_MAP } from '../../golden/samples.ts';
import { expectDamaged, put, resealObject } from './damage.ts';

let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

describe('a shard', () => {
  it('counts the blocks of each segment, also when they are scattered', () => {
    const entries = new Uint32Array(32_768);
    for (let block = 0; block < 16_384; block++) {
      packEntry({ segment: 2 ** 36 - 1 - (block % 3), offset: 1, length: 1, index: 0 }, entries, block * 2);
    }
    const { bytes, headerBytes, mapped } = encodeShard(
      { lineage: 'l', volume: 'v', shard: 0, n: 1, entries },
      compression,
    );
    expect(mapped).toBe(16_384);
    const read = decodeShardSummary(bytes.subarray(0, headerBytes));
    expect(read).toMatchObject({
      mapped: 16_384,
      summary: [
        { segment: 2 ** 36 - 3, live: 5461 },
        { segment: 2 ** 36 - 2, live: 5461 },
        { segment: 2 ** 36 - 1, live: 5462 },
      ],
    });
    expect(decodeShard(bytes, compression).entries).toEqual(entries);
  });

  it('may have a segment for each of its blocks', () => {
    const entries = new Uint32Array(32_768);
    for (let block = 0; block < 16_384; block++) {
      packEntry({ segment: 1 + block * 4_000_000, offset: 1, length: 1, index: 0 }, entries, block * 2);
    }
    const { bytes } = encodeShard({ lineage: 'l', volume: 'v', shard: 0, n: 1, entries }, rawCompression);
    const shard = decodeShard(bytes, rawCompression);
    expect(shard.summary).toHaveLength(16_384);
    expect(shard.summary.at(-1)).toEqual({ segment: 1 + 16_383 * 4_000_000, live: 1 });
  });

  it('may be empty', () => {
    const entries = new Uint32Array(32_768);
    const { bytes, mapped } = encodeShard({ lineage: 'l', volume: 'v', shard: 3, n: 2, entries }, compression);
    expect(mapped).toBe(0);
    expect(decodeShard(bytes, compression)).toMatchObject({ shard: 3, n: 2, summary: [], entries });
  });

  it('is not made of a map of another size or with impossible entries', () => {
    const base = { lineage: 'l', volume: 'v', shard: 0, n: 1, entries: new Uint32Array(32_768) };
    const encode =
      (change: object): (() => unknown) =>
      () =>
        encodeShard({ ...base, ...change }, rawCompression);
    expect(encode({ entries: new Uint32Array(32_766) })).toThrow(/32766 words/);
    expect(encode({ entries: new Uint32Array(32_768).fill(1, 5, 6) })).toThrow(/block 2 is impossible/);
    expect(encode({ shard: 2 ** 20 })).toThrow(/lies in a volume/);
    expect(encode({ volume: '' })).toThrow(/identifier/);
  });

  it('is refused when its parts do not add up, even with right checksums', () => {
    const [first, second] = SHARD.summary;
    if (first === undefined || second === undefined) throw new Error('two segments');
    const wrong: readonly (readonly [Partial<ShardParts>, RegExp])[] = [
      [{ shard: 2 ** 20 }, /shard 1048576/],
      [{ mapped: 16_385 }, /16385 mapped/],
      [{ mapped: 4 }, /3 live blocks instead of 4/],
      [{ mapped: 1 }, /1 mapped blocks in 2/],
      [{ summary: [second, first] }, /out of order/],
      [{ summary: [{ segment: 2 ** 36, live: 3 }] }, /out of order/],
      [
        {
          summary: [
            { ...first, live: 0 },
            { ...second, live: 3 },
          ],
        },
        /no live blocks/,
      ],
      [
        {
          summary: [
            { ...first, live: 1 },
            { ...second, live: 2 },
          ],
        },
        /not that of its map/,
      ],
      [{ summary: [{ ...first, live: 3 }] }, /not that of its map/],
      [{ codec: 0 }, /raw part/],
      [{ payload: Buffer.alloc(0) }, /impossible size/],
      [{ codec: 0, payload: Buffer.alloc(131_073) }, /impossible size/],
      [{ codec: 0, payload: Buffer.alloc(131_072, 0) }, /not that of its map/],
      [{ codec: 0, payload: Buffer.concat([SHARD_MAP.subarray(0, -1), Buffer.from([1])]) }, /impossible/],
    ];
    for (const [parts, message] of wrong) {
      expectDamaged(() => decodeShard(buildShard({ ...SHARD, ...parts }), compression), message);
    }
    for (const value of [0, 1, 3, 0xffffffff]) {
      expectDamaged(() => decodeShard(resealObject(put(buildShard(SHARD), 'shard', 'segments', value)), compression));
    }
  });
});

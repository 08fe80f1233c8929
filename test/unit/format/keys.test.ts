import { describe, expect, it } from 'vitest';
import {
  checkpointKey,
  lineagePrefix,
  manifestKey,
  MAX_KEY_BYTES,
  parseKey,
  runKey,
  segmentKey,
  segmentPrefix,
  shardKey,
  volumePrefix,
} from '../../../gateway/format/keys.ts';

const BIG = Number.MAX_SAFE_INTEGER;

describe('an object key', () => {
  it('is the one the document states', () => {
    expect(segmentKey('lin', 0xabc)).toBe('lineages/lin/segments/000000abc');
    expect(checkpointKey('lin', 'vol', 18, 3)).toBe(
      'lineages/lin/volumes/vol/checkpoints/0000000000000012-0000000000000003',
    );
    expect(runKey('lin', 'vol', 18, 3)).toBe('lineages/lin/volumes/vol/runs/0000000000000012-0000000000000003');
    expect(shardKey('lin', 'vol', 513, 18, 3)).toBe(
      'lineages/lin/volumes/vol/shards/00000201/0000000000000012-0000000000000003',
    );
    expect(manifestKey('lin', 'vol', 3, 43)).toBe(
      'lineages/lin/volumes/vol/manifests/000000000000002b-0000000000000003',
    );
  });

  it('tells what it was made of', () => {
    const place = { lineage: 'lin-1', volume: 'vol_2.x' };
    const made = { ...place, sequence: BIG, maintenanceEpoch: 7 };
    expect(parseKey(segmentKey('lin-1', 2 ** 36 - 1))).toEqual({
      kind: 'segment',
      lineage: 'lin-1',
      number: 2 ** 36 - 1,
    });
    expect(parseKey(checkpointKey('lin-1', 'vol_2.x', BIG, 7))).toEqual({ kind: 'checkpoint', ...made });
    expect(parseKey(runKey('lin-1', 'vol_2.x', BIG, 7))).toEqual({ kind: 'run', ...made });
    expect(parseKey(shardKey('lin-1', 'vol_2.x', 9, BIG, 7))).toEqual({ kind: 'shard', shard: 9, ...made });
    expect(parseKey(manifestKey('lin-1', 'vol_2.x', 7, BIG))).toEqual({ kind: 'manifest', ...place, n: BIG, epoch: 7 });
  });

  it('of something else is not taken for one of ours', () => {
    const key = checkpointKey('lin', 'vol', 1, 1);
    for (const other of [
      '',
      'lineages/lin/segments/000000000',
      'lineages/lin/segments/00000000A',
      'lineages/lin/segments/0000000001',
      'lineages/../segments/000000001',
      'lineages/lin/segments/000000001\n',
      `x${key}`,
      `${key}0`,
      key.replace('checkpoints', 'other'),
      key.replace('0000000000000001-', 'ffffffffffffffff-'),
      key.replace('vol', 'v/l'),
      key.replace('vol', 'v'.repeat(65)),
    ]) {
      expect(parseKey(other), other).toBeUndefined();
    }
  });

  it('is never made of what is no identifier or number', () => {
    expect(() => segmentKey('a/b', 1)).toThrow(/invariant/);
    expect(() => segmentKey('..', 1)).toThrow(/invariant/);
    expect(() => segmentKey('lin', 0)).toThrow(/invariant/);
    expect(() => segmentKey('lin', 2 ** 36)).toThrow(/invariant/);
    expect(() => volumePrefix('lin', '')).toThrow(/invariant/);
    expect(() => checkpointKey('lin', 'vol', -1, 1)).toThrow(/invariant/);
    expect(() => runKey('lin', 'vol', 1.5, 1)).toThrow(/invariant/);
    expect(() => shardKey('lin', 'vol', 2 ** 32, 1, 1)).toThrow(/invariant/);
  });

  it('lies below the prefix of its lineage, and of its volume', () => {
    expect(segmentKey('lin', 5).startsWith(segmentPrefix('lin'))).toBe(true);
    expect(segmentPrefix('lin').startsWith(lineagePrefix('lin'))).toBe(true);
    expect(shardKey('lin', 'vol', 1, 1, 1).startsWith(volumePrefix('lin', 'vol'))).toBe(true);
    expect(volumePrefix('lin', 'vol').startsWith(lineagePrefix('lin'))).toBe(true);
  });

  it('is at most 255 bytes long', () => {
    const id = 'i'.repeat(64);
    expect(shardKey(id, id, 1, 1, 1).length).toBeLessThanOrEqual(MAX_KEY_BYTES);
    expect(manifestKey(id, id, BIG, BIG).length).toBeLessThanOrEqual(MAX_KEY_BYTES);
  });
});

import { beforeAll, describe, expect, it } from 'vitest';
import type { Checkpoint } from '../../../gateway/format/checkpoint.ts';
import { decodeCheckpoint, encodeCheckpoint } from '../../../gateway/format/checkpoint.ts';
import type { Compression } from '../../../gateway/format/compression.ts';
import { loadCompression, rawCompression } from '../../../gateway/format/compression.ts';
import type { CheckpointParts } from '../../golden/builder.ts';
import { buildCheckpoint } from '../../golden/builder.ts';
import { CHECKPOINT } from '../../golden/samples.ts';
import { expectDamaged, put, resealObject } from './damage.ts';

let compression: Compression;
beforeAll(async () => {
  compression = await loadCompression();
});

const SAMPLE: Checkpoint = {
  lineage: 'lin',
  volume: 'vol',
  sequence: 1,
  maintenanceEpoch: 1,
  n: 100,
  epoch: 2,
  chain: Buffer.alloc(32, 7),
  bytes: 2 ** 40,
  lastData: { epoch: 2, logId: 'log', throughSeq: 5 },
  newestWriteAt: 5,
  sealedAt: 6,
  runs: [],
  shards: [],
};

describe('a checkpoint', () => {
  it('of a volume of a tebibyte takes little more than its references', () => {
    const shards = Array.from({ length: 16_384 }, (_, shard) => ({
      shard,
      sequence: 1 + (shard % 50),
      maintenanceEpoch: 1,
      n: 100 - (shard % 50),
      mapped: 16_384,
      objectBytes: 2000 + (shard % 777),
      crc32: (shard * 2_654_435_761) % 2 ** 32,
    }));
    const { bytes } = encodeCheckpoint({ ...SAMPLE, shards }, compression);
    expect(bytes.length).toBeLessThan(200_000);
    expect(decodeCheckpoint(bytes, compression)).toEqual({ ...SAMPLE, shards });
  });

  it('is not made of what contradicts itself', () => {
    const run = {
      sequence: 1,
      maintenanceEpoch: 1,
      fromN: 1,
      throughN: 9,
      headerBytes: 100,
      objectBytes: 100,
      crc32: 0,
    };
    const shard = { shard: 1, sequence: 1, maintenanceEpoch: 1, n: 9, mapped: 0, objectBytes: 100, crc32: 0 };
    const wrong: readonly (readonly [Partial<Checkpoint>, RegExp])[] = [
      [{ n: 0 }, /count from 1/],
      [{ epoch: 0 }, /count from 1/],
      [{ chain: Buffer.alloc(31) }, /31 bytes/],
      [{ lastData: { epoch: 3, logId: 'log', throughSeq: 1 } }, /last data of epoch 3/],
      [{ lastData: { epoch: 1, logId: '', throughSeq: 1 } }, /identifier/],
      [{ runs: [run, run] }, /versions 1 to 9/],
      [{ runs: [{ ...run, throughN: 101 }] }, /versions 1 to 101/],
      [{ runs: [{ ...run, objectBytes: 99 }] }, /99 bytes/],
      [{ shards: [shard, shard] }, /out of order/],
      [{ shards: [{ ...shard, shard: 2 ** 20 }] }, /out of order/],
      [{ shards: [{ ...shard, n: 101 }] }, /version 101/],
      [{ shards: [{ ...shard, mapped: 16_385 }] }, /shard 1/],
      [{ shards: [{ ...shard, objectBytes: 1 }] }, /1 bytes/],
    ];
    for (const [change, message] of wrong) {
      expect(() => encodeCheckpoint({ ...SAMPLE, ...change }, rawCompression)).toThrow(message);
    }
  });

  it('is refused when its parts do not add up, even with right checksums', () => {
    const [run] = CHECKPOINT.runs;
    const [shard] = CHECKPOINT.shards;
    if (run === undefined || shard === undefined) throw new Error('a run and a shard');
    const { header } = CHECKPOINT;
    const wrong: readonly (readonly [Partial<CheckpointParts>, RegExp])[] = [
      [{ runs: [run, run] }, /a run of versions/],
      [{ runs: [{ ...run, throughN: 41 }] }, /a run of versions/],
      [{ runs: [{ ...run, headerBytes: 1 }] }, /a run of/],
      [{ shards: [shard, shard] }, /out of order/],
      [{ shards: [{ ...shard, shard: 2 ** 20 }] }, /out of order/],
      [{ shards: [{ ...shard, mapped: 2 ** 20 }] }, /shard 0/],
      [{ header: { ...header, n: 0 } }, /count from 1/],
      [{ header: { ...header, dataEpoch: 0 } }, /last data of no/],
      [{ header: { ...header, dataLogId: '' } }, /last data of no log/],
      [{ header: { ...header, dataEpoch: 0, dataLogId: '' } }, /last data of no epoch/],
      [{ header: { ...header, dataEpoch: 4 } }, /last data of epoch 4/],
      [{ header: { ...header, volume: '-' } }, /volume/],
    ];
    for (const [parts, message] of wrong) {
      expectDamaged(() => decodeCheckpoint(buildCheckpoint({ ...CHECKPOINT, ...parts }), compression), message);
    }
    for (const field of ['runs', 'shards']) {
      for (const value of [0, 1, 3, 2 ** 20, 0xffffffff]) {
        const bytes = resealObject(put(buildCheckpoint(CHECKPOINT), 'checkpoint', field, value));
        expectDamaged(() => decodeCheckpoint(bytes, compression));
      }
    }
  });
});

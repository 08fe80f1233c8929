import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import type { Item } from '../../../gateway/cloud/dynamo-items.ts';
import { encodeVersion, encodeVolume } from '../../../gateway/cloud/dynamo-items.ts';
import { MAX_CHECKPOINT_RUNS } from '../../../gateway/format/checkpoint.ts';
import { MAX_FRAME_BLOCKS, MAX_FRAME_BYTES } from '../../../gateway/format/frame.ts';
import { MAX_SEGMENT_NUMBER, MAX_VOLUME_BLOCKS } from '../../../gateway/format/ids.ts';
import { MAX_KEY_BYTES } from '../../../gateway/format/keys.ts';
import { UNIT_BYTES } from '../../../gateway/format/map-entry.ts';
import { MAX_RUN_BYTES, MAX_RUN_RANGES, MAX_SHARDS, SHARD_BLOCKS } from '../../../gateway/format/run.ts';
import { MAX_SEGMENT_BLOCKS, MAX_SEGMENT_BYTES, MAX_SEGMENT_UNMAPS } from '../../../gateway/format/segment.ts';
import { MAX_TAKEOVER_BYTES } from '../../../gateway/format/version-identity.ts';
import { MAX_RECORD_BYTES } from '../../../gateway/format/version-record.ts';
import { attributes, layout, layoutNames, limits } from '../../golden/format-doc.ts';

describe('docs/FORMAT.md', () => {
  it('states the limits that the code enforces', () => {
    expect(Object.fromEntries(limits())).toEqual({
      BLOCK_SIZE,
      UNIT_BYTES,
      MAX_VOLUME_BLOCKS,
      MAX_SEGMENT_NUMBER,
      MAX_FRAME_BLOCKS,
      MAX_FRAME_BYTES,
      MAX_SEGMENT_BYTES,
      MAX_SEGMENT_BLOCKS,
      MAX_SEGMENT_UNMAPS,
      SHARD_BLOCKS,
      MAX_SHARDS,
      MAX_TAKEOVER_BYTES,
      MAX_RUN_RANGES,
      MAX_RUN_BYTES,
      MAX_CHECKPOINT_RUNS,
      MAX_RECORD_BYTES,
      MAX_KEY_BYTES,
    });
  });

  it('names the attributes that the table has', () => {
    const typed = (item: Item): string[] =>
      Object.entries(item)
        .filter(([name]) => !['pk', 'sk', 'format'].includes(name))
        .map(([name, value]) => `${name}: ${Object.keys(value).join()}`)
        .sort();
    const hash = Buffer.alloc(32, 1);
    const pointer = { sequence: 1, maintenanceEpoch: 1, n: 1, epoch: 1, chain: hash };
    const volume = encodeVolume({
      ...{ lineage: 'l', volume: 'v', name: 'n', bytes: 1, sectorSize: 512, replication: 'async', targetName: 't' },
      ...{ naa: Buffer.alloc(16), createdAt: 1, epoch: 1, owner: 'o', floor: 1, checkpoint: pointer },
      ...{ maintenanceEpoch: 1, retainedFrom: 1, deletedAt: 1, quotaBytes: 1, removable: true, physicalSize: 512 },
      ...{ onRemoteLoss: 'block', handover: { state: 'offered', to: 'g' } },
    });
    expect(typed(volume)).toEqual(attributes('Volume').sort());
    const version = encodeVersion('v', { n: 1, epoch: 1, record: hash, chain: hash, inline: hash });
    expect(typed(version)).toEqual(attributes('Version').sort());
  });

  it('has a table for each structure, whose offsets follow from the sizes', () => {
    expect(layoutNames().sort()).toEqual([
      'checkpoint',
      'checkpoint-run',
      'checkpoint-shard',
      'envelope',
      'extent',
      'frame',
      'run',
      'run-index',
      'segment',
      'shard',
      'shard-share',
      'version-part',
      'version-record',
    ]);
    for (const name of layoutNames()) {
      let position: number | undefined = 0;
      for (const field of layout(name)) {
        const size: number | string = field.size === 'envelope' ? 24 : field.size;
        expect(field.offset, `${name}.${field.name}`).toBe(position);
        position = position !== undefined && typeof size === 'number' ? position + size : undefined;
      }
    }
  });
});

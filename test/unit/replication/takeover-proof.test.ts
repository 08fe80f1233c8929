import { describe, expect, it } from 'vitest';
import { decodeSegmentHeader } from '../../../gateway/format/segment-decode.ts';
import type { SegmentHeader } from '../../../gateway/format/segment-layout.ts';
import { MAX_TAKEOVER_BYTES } from '../../../gateway/format/version-identity.ts';
import { splitRecords } from '../../../gateway/format/version-record.ts';
import { RemoteWorld } from '../../support/remote-world.ts';

function newestHeader(world: RemoteWorld): SegmentHeader {
  const key = world.objects.keys().findLast((name) => name.includes('/segments/')) ?? '';
  const header = decodeSegmentHeader(world.objects.get(key) ?? Buffer.alloc(0));
  if ('needBytes' in header) throw new Error('truncated');
  return header;
}

describe('the first payload of an epoch', () => {
  it('carries every record since the last version that has an object, and the ones after it carry none', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({ writes: [[1, 1]] });
    const before = world.table.getVersion('vol', 2);
    for (let start = 0; start < 3; start += 1) await world.gateway().open();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[2, 2]] });
    const { takeover, n } = newestHeader(world);
    expect(n).toBe(7);
    expect(splitRecords(takeover?.record ?? Buffer.alloc(0)).map(({ record }) => record.n)).toEqual([3, 4, 5, 6]);
    expect(takeover?.previousChain).toEqual(before?.chain);
    await gateway.commit({ writes: [[3, 3]] });
    expect(newestHeader(world).takeover).toBeUndefined();
  });

  it(
    'reaches back as far as there is room when a gateway has started very often without writing',
    { timeout: 30_000 },
    async () => {
      const world = new RemoteWorld();
      for (let start = 0; start < 90; start += 1) await world.gateway().open();
      const gateway = world.gateway();
      await gateway.open();
      await gateway.commit({ writes: [[2, 2]] });
      const { takeover } = newestHeader(world);
      expect(takeover?.record.length).toBeLessThanOrEqual(MAX_TAKEOVER_BYTES);
      const records = splitRecords(takeover?.record ?? Buffer.alloc(0)).map(({ record }) => record.n);
      expect(records.at(-1)).toBe(91);
      expect(records.length).toBeGreaterThan(50);
      expect(takeover?.previousChain).toEqual(world.table.getVersion('vol', (records[0] ?? 0) - 1)?.chain);
    },
  );

  it('reaches back to the checkpoint when everything before it is folded', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({ writes: [[1, 1]] });
    await first.engine.fold();
    const gateway = world.gateway();
    await gateway.open();
    await gateway.commit({ writes: [[2, 2]] });
    expect(newestHeader(world).takeover?.previousChain).toEqual(world.table.getVersion('vol', 2)?.chain);
  });
});

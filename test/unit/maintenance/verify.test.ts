import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { verifyVolume } from '../../../gateway/maintenance/verify.ts';
import { REF, RemoteWorld } from '../../support/remote-world.ts';

/** A volume with a checkpoint of a run and a shard, and two versions after it. */
async function world(): Promise<RemoteWorld> {
  const made = new RemoteWorld();
  const gateway = made.gateway();
  await gateway.open();
  await gateway.commit({ writes: Array.from({ length: 1100 }, (_, at) => [at, at + 1]) });
  await gateway.commit({ writes: [[50_000, 5]] });
  await gateway.engine.fold();
  await gateway.commit({
    writes: [
      [20, 21],
      [60_000, 6],
    ],
  });
  await gateway.commit({ writes: [[30, 31]] });
  await gateway.engine.close();
  return made;
}

function keysOf({ objects }: RemoteWorld, part: string): string[] {
  return objects.keys().filter((key) => key.includes(part));
}

function replace({ objects }: RemoteWorld, key: string, change: (bytes: Buffer) => Buffer): void {
  const bytes = objects.get(key);
  if (bytes === undefined) throw new Error(`no ${key}`);
  objects.delete([key]);
  const changed = change(bytes);
  objects.put(key, changed, crc32(changed));
}

function flip(at: number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const position = at < 0 ? bytes.length + at : at;
    bytes.writeUInt8((bytes[position] ?? 0) ^ 1, position);
    return bytes;
  };
}

describe('verifying a volume', () => {
  it('passes a sound one and says how much it read', async () => {
    const made = await world();
    expect(keysOf(made, '/runs/')).toHaveLength(1);
    expect(keysOf(made, '/shards/')).toHaveLength(1);
    const report = await verifyVolume(made.maintenance, REF);
    expect(report).toMatchObject({ verdict: 'pass', n: 5, blocks: 1102, problems: [] });
    // Two folded segments, two since; checkpoint, run, shard.
    expect(report.objects).toBe(7);
    expect(report.bytes).toBeGreaterThan(1102 * 4096);
  });

  it('finds every single object that is missing', async () => {
    const keys = (await world()).objects.keys();
    expect(keys).toHaveLength(7);
    for (const key of keys) {
      const made = await world();
      made.objects.delete([key]);
      const report = await verifyVolume(made.maintenance, REF);
      expect(report.verdict, key).toBe('fail');
      expect(report.problems.join(' ')).toContain(key);
    }
  });

  it('finds a flipped bit in any object, at its start, in its middle and at its end', { timeout: 60_000 }, async () => {
    const sound = await world();
    for (const key of sound.objects.keys()) {
      const size = sound.objects.head(key)?.bytes ?? 0;
      for (const at of [3, Math.floor(size / 2), -1]) {
        const made = await world();
        replace(made, key, flip(at));
        const report = await verifyVolume(made.maintenance, REF);
        expect(report.verdict, `${key} at ${at}`).toBe('fail');
      }
    }
  });

  it("finds objects that lie under each other's keys", async () => {
    for (const part of ['/segments/', '/checkpoints/']) {
      const made = await world();
      const other = new RemoteWorld();
      const gateway = other.gateway();
      await gateway.open();
      for (let value = 1; value < 5; value += 1) await gateway.commit({ writes: [[value, value]] });
      await gateway.engine.fold();
      const [from, to] = [keysOf(other, part)[0] ?? '', keysOf(made, part)[0] ?? ''];
      const foreign = other.objects.get(from) ?? Buffer.alloc(0);
      replace(made, to, () => foreign);
      expect((await verifyVolume(made.maintenance, REF)).verdict).toBe('fail');
    }
    const swapped = await world();
    const [first, , third] = keysOf(swapped, '/segments/');
    const a = swapped.objects.get(first ?? '') ?? Buffer.alloc(0);
    const b = swapped.objects.get(third ?? '') ?? Buffer.alloc(0);
    replace(swapped, first ?? '', () => b);
    replace(swapped, third ?? '', () => a);
    expect((await verifyVolume(swapped.maintenance, REF)).verdict).toBe('fail');
  });

  it('finds a version of the log that was changed', async () => {
    const made = await world();
    const item = made.table.getVersion(REF.volume, 5);
    if (item === undefined) throw new Error('no version 5');
    made.table.deleteVersions(REF.volume, [5]);
    made.table.putVersion(REF.volume, { ...item, chain: Buffer.alloc(32, 1) }, item.epoch);
    const report = await verifyVolume(made.maintenance, REF);
    expect(report.verdict).toBe('fail');
    expect(report.problems.join(' ')).toContain('chain');
  });

  it('is inconclusive, not passed, when the cloud goes away half-way', async () => {
    const made = await world();
    let allowed = 5;
    made.faults.before = (request) => {
      if (!request.startsWith('get ')) return;
      allowed -= 1;
      if (allowed < 0) throw new FarshoreError('retry', 'no route');
    };
    const report = await verifyVolume(made.maintenance, REF);
    expect(report.verdict).toBe('inconclusive');
    expect(report.problems).toHaveLength(1);
  });

  it('looks again when a fold moved the checkpoint under it', async () => {
    const made = await world();
    const stale = keysOf(made, '/runs/')[0] ?? '';
    let once = true;
    made.faults.before = async (request) => {
      if (!once || !request.startsWith(`get ${stale}`)) return;
      once = false;
      const gateway = made.gateway('folder');
      await gateway.open();
      await gateway.commit({ writes: Array.from({ length: 1100 }, (_, at) => [49_152 + at, 9]) });
      await gateway.engine.fold();
      // As a collector will do one day: no shard needs the run any more.
      made.objects.delete([stale]);
    };
    expect(await verifyVolume(made.maintenance, REF)).toMatchObject({ verdict: 'pass', problems: [] });
    expect(once).toBe(false);
  });

  it('rejects for a volume that does not exist', async () => {
    const made = await world();
    await expect(verifyVolume(made.maintenance, { ...REF, volume: 'none' })).rejects.toMatchObject({
      kind: 'not-found',
    });
  });
});

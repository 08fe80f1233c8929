import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../gateway/base/clock.ts';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { Disk, DiskFile } from '../../gateway/base/disk.ts';
import { NodeDisk } from '../../gateway/base/node-disk.ts';
import { diskFull, MemoryDisk } from '../support/memory-disk.ts';
import { Catalogue, MAX_VOLUMES } from '../../gateway/catalogue.ts';
import { SimClock } from '../sim/sim-clock.ts';
import { SimDisk } from '../sim/sim-disk.ts';
import { SimRandom } from '../sim/sim-random.ts';

/** Just enough of a disk for one small file, without crashes. */
function oneFileDisk(files = new Map<string, Buffer>()): Disk {
  const file = (path: string): DiskFile => ({
    size: async () => files.get(path)?.length ?? 0,
    read: async (into, position) => {
      files.get(path)?.copy(into, 0, position);
    },
    write: async (pieces) => {
      files.set(path, Buffer.concat(pieces));
    },
    sync: async () => undefined,
    close: async () => undefined,
  });
  return {
    makeDirectory: async () => undefined,
    list: async () => [...files.keys()],
    open: async (path, mode) => {
      if (mode !== 'create' && !files.has(path)) throw new FarshoreError('not-found', path);
      return file(path);
    },
    rename: async (from, to) => {
      files.set(to, files.get(from) ?? Buffer.alloc(0));
      files.delete(from);
    },
    remove: async (path) => {
      files.delete(path);
    },
    syncDirectory: async () => undefined,
  };
}

const entry = (volume: string) => ({ name: `n-${volume}`, lineage: 'l', volume });

describe('the catalogue of a gateway', () => {
  it('keeps its identity and volumes across restarts', async () => {
    const disk = oneFileDisk();
    const first = await Catalogue.open(disk, systemRandom);
    await first.put(entry('a'));
    await first.put(entry('b'));
    await first.put({ ...entry('a'), deletedAt: 5 });
    await first.remove('b');
    const second = await Catalogue.open(disk, systemRandom);
    expect(second.gateway).toBe(first.gateway);
    expect(second.gateway).toMatch(/^[0-9a-f]{16}$/);
    expect(second.volumes).toEqual([{ ...entry('a'), deletedAt: 5 }]);
  });

  it('takes changes to several volumes that come at once', async () => {
    const root = mkdtempSync(join(tmpdir(), 'farshore-catalogue-'));
    try {
      const disk = new NodeDisk(root);
      const catalogue = await Catalogue.open(disk, systemRandom);
      const names = ['a', 'b', 'c', 'd', 'e', 'f'];
      await Promise.all(names.map((name) => catalogue.put(entry(name))));
      await Promise.all([catalogue.remove('a'), catalogue.put({ ...entry('b'), deletedAt: 5 })]);
      const again = await Catalogue.open(disk, systemRandom);
      expect(again.volumes.map(({ volume }) => volume).sort()).toEqual(['b', 'c', 'd', 'e', 'f']);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('writes nothing once it was closed: the directory may be another process’s by then', async () => {
    const disk = oneFileDisk();
    const catalogue = await Catalogue.open(disk, systemRandom);
    const saving = catalogue.put(entry('a'));
    const closing = catalogue.close();
    await Promise.all([saving, closing]);
    await expect(catalogue.put(entry('b'))).rejects.toMatchObject({ kind: 'stopped' });
    await expect(catalogue.remove('a')).rejects.toMatchObject({ kind: 'stopped' });
    expect((await Catalogue.open(disk, systemRandom)).volumes).toEqual([entry('a')]);
  });

  it('is what it was before a change that a full disk did not take, also after the next one', async () => {
    const disk = new MemoryDisk();
    const catalogue = await Catalogue.open(disk, systemRandom);
    await catalogue.put(entry('a'));
    disk.before = () => {
      throw diskFull();
    };
    await expect(catalogue.put(entry('b'))).rejects.toMatchObject({ kind: 'busy' });
    await expect(catalogue.remove('a')).rejects.toMatchObject({ kind: 'busy' });
    expect(catalogue.volumes).toEqual([entry('a')]);
    disk.before = undefined;
    await catalogue.put(entry('c'));
    expect((await Catalogue.open(disk, systemRandom)).volumes).toEqual([entry('a'), entry('c')]);
  });

  it('refuses one volume more than a gateway serves', async () => {
    const catalogue = await Catalogue.open(oneFileDisk(), systemRandom);
    for (let index = 0; index < MAX_VOLUMES; index++) await catalogue.put(entry(String(index)));
    await expect(catalogue.put(entry('more'))).rejects.toMatchObject({ kind: 'input' });
  });

  it.each(['{', '{}', '{"format":2,"gateway":"0123456789abcdef","volumes":[]}'])(
    'refuses a damaged file (%s) and says what to do',
    async (text) => {
      const disk = oneFileDisk(new Map([['gateway.json', Buffer.from(text)]]));
      await expect(Catalogue.open(disk, systemRandom)).rejects.toMatchObject({ kind: 'damaged' });
    },
  );

  it('is durable before anybody acts on it, also where the process that wrote it died before that', async () => {
    const random = new SimRandom(1);
    const clock = new SimClock(random.split('clock'));
    const disk = new SimDisk('disk', clock, random.split('disk'));
    const first = { name: 'first', alive: true };
    disk.setProbe({
      begun: ({ kind }) => {
        if (kind !== 'syncdir') return;
        first.alive = false;
        disk.setProbe(undefined);
      },
    });
    // Its new identity is in the directory, which nobody has made durable.
    void Catalogue.open(disk.mount(first), random);
    await clock.run({ when: () => !first.alive });
    disk.crash('process');
    const second = { name: 'second', alive: true };
    const { gateway } = await clock.settle(Catalogue.open(disk.mount(second), random));
    second.alive = false;
    disk.crash('power', { fate: 'lost' });
    const third = await clock.settle(Catalogue.open(disk.mount({ name: 'third', alive: true }), random));
    expect(third.gateway).toBe(gateway);
  });
});

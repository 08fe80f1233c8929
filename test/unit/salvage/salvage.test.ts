import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { NodeDisk } from '../../../gateway/base/node-disk.ts';
import { NodeImages } from '../../../gateway/base/node-images.ts';
import { BLOCK_SIZE } from '../../../gateway/base/units.ts';
import type { CacheLog } from '../../../gateway/cache/cache-log.ts';
import type { TailOp } from '../../../gateway/cache/tail-reader.ts';
import type { VolumeItem } from '../../../gateway/cloud/version-log.ts';
import { RemoteVolumeEngine } from '../../../gateway/replication/remote-volume-engine.ts';
import { commonVersion, lastVersionOf } from '../../../gateway/salvage/common-version.ts';
import { exportImage, type ExportRequest } from '../../../gateway/salvage/export-image.ts';
import { importTail, type Imported, type ImportDeps } from '../../../gateway/salvage/import-tail.ts';
import { chooseFile, listSalvage, removeSalvage } from '../../../gateway/salvage/salvage-files.ts';
import { salvageTail } from '../../../gateway/volume/salvage.ts';
import { SalvageFile } from '../../../gateway/volume/salvage-reader.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';
import { blockOf, REF, RemoteWorld } from '../../support/remote-world.ts';

/** Room for the last of BLOCKS, and little more: whole images are read. */
const VOLUME_BYTES = 2 ** 27;
const PATH = 'salvage/vol-1.fsv';
const BLOCKS = [1, 2, 3, 4, 5, 9, 20_000];

/** The tail of a log: what is written, unmapped or lost, one operation each. */
const TAIL: TailOp[] = [
  // The first two are in a version, but nobody here knows that.
  { kind: 'write', seq: 3, block: 3, data: [blockOf(3, 3)] },
  { kind: 'write', seq: 4, block: 4, data: [blockOf(4, 4), blockOf(5, 5)] },
  { kind: 'write', seq: 5, block: 1, data: [blockOf(1, 50)] },
  {
    kind: 'unmap',
    seq: 6,
    ranges: [
      { block: 2, count: 1 },
      { block: 4, count: 1 },
    ],
  },
  { kind: 'write', seq: 7, block: 20_000, data: [blockOf(20_000, 70)] },
  { kind: 'write', seq: 8, block: 1, data: [blockOf(1, 80)] },
];
/** What BLOCKS have as of the last common version with the tail over it. */
const SALVAGED = [80, 0, 3, 0, 5, 0, 70];

interface Scene {
  readonly world: RemoteWorld;
  readonly disk: MemoryDisk;
  /** The common version. */
  readonly n: number;
}

/** A gateway commits four writes and is taken over by another one, which writes over everything; the tail is in a salvage file. */
async function scene(tail = TAIL): Promise<Scene> {
  const world = new RemoteWorld(VOLUME_BYTES);
  const loser = world.gateway('loser');
  await loser.open();
  await loser.commit({
    writes: [
      [1, 1],
      [2, 2],
    ],
  });
  await loser.commit({
    writes: [
      [3, 3],
      [4, 4],
      [5, 5],
    ],
  });
  const { committedN: n, epoch } = await loser.engine.status();
  const winner = world.gateway('winner');
  await winner.open();
  await winner.commit({
    writes: [
      [1, 99],
      [3, 99],
      [9, 99],
    ],
  });
  await winner.engine.fold();
  await winner.commit({ writes: [[20_000, 99]] });
  const disk = new MemoryDisk();
  await salvageTail(disk, logWith(tail), { ref: REF, epoch, logId: loser.logId, localNumber: 1, after: 2 });
  return { world, disk, n };
}

function logWith(tail: readonly TailOp[]): CacheLog {
  const readTail: CacheLog['readTail'] = async (_number, after, visit) => {
    for (const op of tail) if (op.seq > after) await visit(op);
  };
  return { readTail } as unknown as CacheLog;
}

function itemOf({ world }: Scene): VolumeItem {
  const item = world.table.getVolume(REF);
  if (item === undefined) throw new Error('the source is gone');
  return item;
}

function engineOf({ store, versions, compression, clock, random }: RemoteWorld): RemoteVolumeEngine {
  const reader = { readBlocks: (places: Float64Array) => Promise.resolve([...places.keys()]) };
  return new RemoteVolumeEngine({ store, versions, reader, compression, clock, random, log: silentLog });
}

function importDeps({ world, disk }: Scene): ImportDeps {
  return {
    maintenance: world.maintenance,
    ...{ gateway: 'loser', iqn: 'iqn.2026-11.dev.farshore:t', disk, isTaken: () => false, isHere: () => false },
    openRemote: () => engineOf(world),
  };
}

async function imported(there: Scene, as = 'rescued'): Promise<Imported> {
  const file = await SalvageFile.open(there.disk, PATH);
  return importTail(importDeps(there), {
    ...{ file, passOverDamage: false, source: itemOf(there), n: there.n, as },
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
}

async function contentOf({ world }: Scene, item: VolumeItem, verdict = 'pass'): Promise<number[]> {
  const engine = engineOf(world);
  await engine.open({ ref: item, takeover: false, gateway: item.owner, lastEpoch: 0, logId: 'check' });
  const values: number[] = [];
  for (const block of BLOCKS) {
    const { data, present } = await engine.read(block, 1);
    if (present[0] === 1 && !data.equals(blockOf(block, data.readDoubleLE(8)))) throw new Error('foreign content');
    values.push(present[0] === 1 ? data.readDoubleLE(8) : 0 - (present[0] ?? 0));
  }
  expect(await engine.verify()).toMatchObject({ verdict });
  await engine.close();
  return values;
}

describe('the version that salvaged writes follow', () => {
  it('is the last one of the epoch in which they were written, whatever was deleted from the log since', async () => {
    const there = await scene();
    const { world, n } = there;
    expect(await lastVersionOf(world.versions, itemOf(there), 1)).toBe(n);
    const tail = world.table.listVersions('vol', 1, 100);
    world.table.deleteVersions(
      'vol',
      tail.filter((item) => item.n <= n).map((item) => item.n),
    );
    expect(await lastVersionOf(world.versions, itemOf(there), 1)).toBe(n);
  });

  it('is the newest one where nobody has taken over since', async () => {
    const there = await scene();
    const tail = there.world.table.listVersions('vol', 1, 100).at(-1)?.n;
    expect(await lastVersionOf(there.world.versions, itemOf(there), 2)).toBe(tail);
  });

  it('has to be told where the state file was gone', async () => {
    const there = await scene();
    const header = { format: 1 as const, ...REF, epoch: 5, logId: 'unknown', after: 0 };
    await expect(commonVersion(there.world.versions, itemOf(there), header, undefined)).rejects.toMatchObject({
      kind: 'input',
      message: expect.stringContaining('--version N') as string,
    });
    expect(await commonVersion(there.world.versions, itemOf(there), header, there.n)).toBe(there.n);
    await expect(commonVersion(there.world.versions, itemOf(there), header, 9999)).rejects.toMatchObject({
      kind: 'input',
    });
  });
});

describe('an import of salvaged writes', () => {
  it('makes a volume that is the last common version with the writes over it, and nothing of what came after', async () => {
    const there = await scene();
    const { item, outcome } = await imported(there);
    expect(item).toMatchObject({ name: 'rescued', owner: 'loser', deletedAt: undefined, lineage: 'lin' });
    expect(item.naa).not.toEqual(itemOf(there).naa);
    expect(outcome).toEqual({ blocks: 2, lost: [], lostUnmaps: 0, beyond: 0 });
    expect(await contentOf(there, item)).toEqual(SALVAGED);
  });

  it('has all of the writes in one version: before it there is the clone, and nothing half', async () => {
    const there = await scene();
    const { item } = await imported(there);
    const log = there.world.table.listVersions(item.volume, 1, 100);
    expect(log.map(({ n }) => n)).toEqual([there.n + 1, there.n + 2]);
  });

  it('that is cut short at any request goes on when it is repeated, and is found done when it is repeated again', async () => {
    for (let at = 1; ; at += 1) {
      for (const when of ['before', 'after'] as const) {
        const there = await scene();
        let requests = 0;
        there.world.faults[when] = () => {
          requests += 1;
          if (requests >= at) throw new Error('crash');
        };
        const first = await imported(there).catch((error: unknown) => error);
        there.world.faults[when] = () => undefined;
        if (requests < at) {
          expect(at).toBeGreaterThan(20);
          return;
        }
        expect(first, `${when} request ${at}`).toBeInstanceOf(Error);
        const { item } = await imported(there);
        expect(await contentOf(there, item), `${when} request ${at}`).toEqual(SALVAGED);
        const again = await imported(there);
        expect(again.outcome).toBeUndefined();
        expect(again.item.volume).toBe(item.volume);
        expect(there.world.table.listNames().map(({ name }) => name)).toEqual(['rescued']);
      }
    }
  }, 60_000);

  it('says which blocks are lost, commits them as lost, and leaves out what lies beyond the end', async () => {
    const there = await scene([
      { kind: 'write', seq: 6, block: 1, data: [undefined, blockOf(2, 52)] },
      { kind: 'write', seq: 7, block: 3, data: [undefined] },
      { kind: 'write', seq: 8, block: 3, data: [blockOf(3, 73)] },
      { kind: 'unmap', seq: 9, ranges: undefined },
      { kind: 'write', seq: 10, block: VOLUME_BYTES / BLOCK_SIZE, data: [blockOf(0, 1)] },
    ]);
    const { item, outcome } = await imported(there);
    expect(outcome).toMatchObject({ lost: [1], lostUnmaps: 1, beyond: 1 });
    expect(await contentOf(there, item, 'fail')).toEqual([-2, 52, 73, 4, 5, 0, 0]);
  });

  it('under the name of another volume is refused, and one that is under way is finished under its own name', async () => {
    const there = await scene();
    there.world.table.claimName('taken', { lineage: 'x', volume: 'y' });
    there.world.table.createVolume({ ...itemOf(there), lineage: 'x', volume: 'y', name: 'taken' });
    await expect(imported(there, 'taken')).rejects.toMatchObject({ kind: 'in-use' });
    await expect(imported(there, 'other')).rejects.toMatchObject({ kind: 'in-use' });
  });

  it('twice under two names makes two volumes', async () => {
    const there = await scene();
    const one = await imported(there, 'one');
    const two = await imported(there, 'two');
    expect(two.item.volume).not.toBe(one.item.volume);
    expect(await contentOf(there, two.item)).toEqual(SALVAGED);
  });

  it('whose version is not kept any more is refused', async () => {
    const there = await scene();
    there.world.table.changeVolume(REF, itemOf(there).epoch, { retainedFrom: there.n + 1 });
    await expect(imported(there)).rejects.toMatchObject({ kind: 'input' });
  });
});

describe('a salvage file', () => {
  const readAll = async (disk: MemoryDisk, passOverDamage = false): Promise<string[]> => {
    const file = await SalvageFile.open(disk, PATH);
    const told: string[] = [];
    await file.read(
      (record) => {
        const what = record.kind === 'write' ? (record.data === undefined ? 'lost' : 'write') : record.kind;
        told.push(`${what} ${record.seq}`);
      },
      { passOverDamage },
    );
    return told;
  };

  it('that was damaged anywhere is said to be damaged, and never read as something else', async () => {
    const { disk } = await scene();
    const content = disk.files.get(PATH) ?? Buffer.alloc(0);
    const whole = await readAll(disk);
    for (let at = 0; at < content.length; at += at < 400 ? 1 : 37) {
      const damaged = Buffer.from(content);
      damaged[at] = (damaged[at] ?? 0) ^ 4;
      await expect(readAll(new MemoryDisk(new Map([[PATH, damaged]]))), `byte ${at}`).rejects.toMatchObject({
        kind: 'damaged',
      });
    }
    for (let cut = 0; cut < content.length; cut += 97) {
      const short = new Map([[PATH, content.subarray(0, cut)]]);
      await expect(readAll(new MemoryDisk(short)), `cut at ${cut}`).rejects.toMatchObject({ kind: 'damaged' });
    }
    expect(whole).toEqual(['write 3', 'write 4', 'write 4', 'write 5', 'unmap 6', 'unmap 6', 'write 7', 'write 8']);
  });

  it('gives what is whole, and says what is lost, where damage is to be passed over', async () => {
    const { disk } = await scene();
    const content = disk.files.get(PATH) ?? Buffer.alloc(0);
    const at = content.indexOf(blockOf(1, 50));
    content[at + 100] = (content[at + 100] ?? 0) ^ 1;
    expect(await readAll(disk, true)).toContain('lost 5');
  });

  it('is listed with what is in it, chosen when it is the only one, and removed with what is known of its import', async () => {
    const there = await scene();
    const { disk } = there;
    await imported(there);
    disk.files.set('threads/2/salvage/other-3.fsv', Buffer.from('rubbish'));
    disk.files.set('salvage/half.fsv.new', Buffer.alloc(1));
    const list = await listSalvage(disk, (volume) => (volume === 'vol' ? 'office' : undefined));
    expect(list[0]).toMatchObject({ file: PATH, volume: 'vol', name: 'office', epoch: 1, writes: 6, blocks: 6 });
    expect(list[1]?.problem).toContain('damaged');
    expect(list).toHaveLength(2);
    expect(chooseFile('office', list.slice(0, 1), undefined).file).toBe(PATH);
    expect(() => chooseFile('office', list, undefined)).toThrow('--file');
    expect(() => chooseFile('office', [], undefined)).toThrow('keeps no writes');
    await removeSalvage(disk, PATH);
    expect([...disk.files.keys()].filter((path) => path.includes('vol-1'))).toEqual([]);
  });
});

describe('an export of salvaged writes', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'farshore-salvage-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  async function exported(there: Scene, changes: Partial<ExportRequest> = {}) {
    const file = await SalvageFile.open(there.disk, PATH);
    const deps = {
      maintenance: there.world.maintenance,
      images: new NodeImages(),
      diskAt: (at: string) => new NodeDisk(at),
    };
    return exportImage(deps, {
      ...{
        file,
        passOverDamage: false,
        base: { item: itemOf(there), n: there.n },
        out: join(directory, 'rescued.img'),
      },
      ...{ signal: new AbortController().signal, onProgress: () => undefined },
      ...changes,
    });
  }
  const inImage = (path = join(directory, 'rescued.img')): number[] => {
    const content = readFileSync(path);
    return BLOCKS.map((block) => {
      const piece = content.subarray(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
      const value = piece.readDoubleLE(8);
      expect(piece.equals(blockOf(block, value))).toBe(true);
      return value;
    });
  };

  it('is the last common version with the writes over it, of the size that the volume had, and takes no room for what is empty', async () => {
    const small = await scene();
    const outcome = await exported(small);
    expect(outcome).toMatchObject({ bytes: VOLUME_BYTES, lost: [], beyond: 0 });
    const { size, blocks } = statSync(join(directory, 'rescued.img'));
    expect(size).toBe(VOLUME_BYTES);
    expect(blocks * 512).toBeLessThan(2 ** 24);
    expect(inImage()).toEqual(SALVAGED);
  });

  it('has the writes alone where that is asked for, also when the volume is gone', async () => {
    await exported(await scene(), { base: undefined });
    expect(inImage()).toEqual([80, 0, 3, 0, 5, 0, 70]);
  });

  it('writes over nothing, and begins anew where an earlier attempt was cut short', async () => {
    const there = await scene();
    writeFileSync(join(directory, 'rescued.img.part'), Buffer.alloc(3 * BLOCK_SIZE, 7));
    await exported(there);
    await expect(exported(there)).rejects.toMatchObject({ kind: 'in-use' });
    expect(inImage()).toEqual(SALVAGED);
  });

  it('leaves nothing behind when it fails', async () => {
    const there = await scene();
    there.world.faults.before = (request) => {
      if (request.startsWith('get lineages/lin/segments')) throw new Error('crash');
    };
    await expect(exported(there)).rejects.toThrow('crash');
    await expect(new NodeDisk(directory).list('')).resolves.toEqual([]);
  });
});

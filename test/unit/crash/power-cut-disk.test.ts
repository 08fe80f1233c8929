import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { undoSomeChanges } from '../../crash/directory-journal.ts';
import { PowerCutDisk } from '../../crash/power-cut-disk.ts';
import { SimRandom } from '../../sim/sim-random.ts';

let root: string;
let journal: string;

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'farshore-power-'));
  root = join(folder, 'state');
  journal = join(folder, 'journal');
  mkdirSync(root);
  mkdirSync(journal);
});
afterEach(() => {
  rmSync(join(root, '..'), { recursive: true });
});

const newDisk = (seed: number): PowerCutDisk => new PowerCutDisk(root, journal, String(seed));

/** What a power cut now would leave of the file. */
function onPlatter(path: string, bytes: number): Buffer {
  const content = Buffer.alloc(bytes);
  readFileSync(join(root, path)).copy(content);
  return content;
}

describe('the disk that loses what was not synced', () => {
  test('reads what was written, and keeps some of it from the platter until a sync', async () => {
    let lost = 0;
    let torn = 0;
    for (let seed = 0; seed < 40; seed += 1) {
      const path = `file${seed}`;
      const file = await newDisk(seed).open(path, 'create');
      await file.write([Buffer.alloc(4096, 1)], 0);
      await file.sync();
      await file.write([Buffer.alloc(2048, 2), Buffer.alloc(2048, 2)], 0);
      const read = Buffer.alloc(4096);
      await file.read(read, 0);
      expect(read.equals(Buffer.alloc(4096, 2))).toBe(true);
      const sectors = Array.from({ length: 8 }, (_, at) => onPlatter(path, 4096)[at * 512]);
      if (sectors.every((byte) => byte === 1)) lost += 1;
      else if (sectors.includes(1)) torn += 1;
      await file.sync();
      expect(onPlatter(path, 4096).equals(read)).toBe(true);
    }
    expect(lost).toBeGreaterThan(5);
    expect(torn).toBeGreaterThan(5);
  });

  test('writes parts of sectors onto what the platter has', async () => {
    const file = await newDisk(1).open('file', 'create');
    await file.write([Buffer.alloc(1024, 1)], 0);
    await file.sync();
    await file.write([Buffer.alloc(32, 2)], 500);
    await file.sync();
    const expected = Buffer.alloc(1024, 1);
    expected.fill(2, 500, 532);
    expect(onPlatter('file', 1024).equals(expected)).toBe(true);
  });

  test('keeps names that a sync of the directory covers, and may lose the others, the newest first', async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 40; seed += 1) {
      const disk = newDisk(seed);
      const kept = `kept${seed}`;
      for (const [path, content] of [
        [kept, 'old'],
        [`${kept}.new`, 'new'],
      ] as const) {
        const file = await disk.open(path, 'create');
        await file.write([Buffer.from(content)], 0);
        await file.sync();
        if (path === kept) await disk.syncDirectory('');
      }
      await disk.rename(`${kept}.new`, kept);
      undoSomeChanges(journal, new SimRandom(seed));
      seen.add(`${readFileSync(join(root, kept), 'utf8')} ${existsSync(join(root, `${kept}.new`))}`);
      rmSync(join(root, kept));
    }
    expect([...seen].sort()).toEqual(['new false', 'old false', 'old true']);
  });

  test('gives a removed file back when nobody synced the directory', async () => {
    const back = new Set<boolean>();
    for (let seed = 0; seed < 20; seed += 1) {
      const disk = newDisk(seed);
      await (await disk.open(`file${seed}`, 'create')).sync();
      await disk.syncDirectory('');
      await disk.remove(`file${seed}`);
      undoSomeChanges(journal, new SimRandom(seed));
      back.add(existsSync(join(root, `file${seed}`)));
    }
    expect(back).toEqual(new Set([true, false]));
  });
});

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readWhole, replaceFile } from '../../../gateway/base/disk.ts';
import { NodeDisk } from '../../../gateway/base/node-disk.ts';

let root: string;
let disk: NodeDisk;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'farshore-disk-'));
  disk = new NodeDisk(root);
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

describe('the real disk', () => {
  it('writes any number of pieces one after the other and reads them back', async () => {
    const pieces = Array.from({ length: 2500 }, (_, index) => Buffer.alloc(1 + (index % 7), index));
    const file = await disk.open('file', 'create');
    await file.write(pieces, 10);
    await file.sync();
    const whole = Buffer.concat(pieces);
    expect(await file.size()).toBe(10 + whole.length);
    const back = Buffer.alloc(whole.length);
    await file.read(back, 10);
    await file.close();
    expect(back.equals(whole)).toBe(true);
  });

  it('answers short calls in the turn while the disk keeps up, and none for a while after it stalled', async () => {
    let nowMs = 0;
    let tookMs = 0;
    const clock = { monotonicMs: () => (nowMs += tookMs) };
    const file = await new NodeDisk(root, clock).open('file', 'create');
    const block = Buffer.alloc(4096, 7);
    const back = Buffer.alloc(4096);
    expect(file.write([block], 0)).toBeUndefined();
    expect(file.read(back, 0)).toBeUndefined();
    expect(back.equals(block)).toBe(true);
    const long = file.write([Buffer.alloc(1024 * 1024)], 4096);
    expect(long).toBeInstanceOf(Promise);
    await long;
    tookMs = 50;
    await file.write([block], 0);
    tookMs = 0;
    const later = file.write([block], 8192);
    expect(later).toBeInstanceOf(Promise);
    await later;
    await new Promise((next) => setImmediate(next));
    nowMs += 10_000;
    expect(file.write([block], 8192)).toBeUndefined();
    await file.close();
  });

  it('gives others their turn when somebody goes on in the turn for long', async () => {
    let nowMs = 0;
    const file = await new NodeDisk(root, { monotonicMs: () => (nowMs += 0.04) }).open('file', 'create');
    const block = Buffer.alloc(4096, 7);
    let inTurn = 0;
    let later;
    while (inTurn < 1000 && (later = file.write([block], 0)) === undefined) inTurn++;
    expect(inTurn).toBeGreaterThan(50);
    expect(inTurn).toBeLessThan(200);
    await later;
    await file.close();
  });

  it('tells failures of calls in the turn by kind, as rejections', async () => {
    await replaceFile(disk, 'file', Buffer.from('short'));
    const file = await disk.open('file', 'read');
    await expect(file.write([Buffer.alloc(1)], 0)).rejects.toMatchObject({ kind: 'stopped' });
    await expect(file.read(Buffer.alloc(1), 5)).rejects.toMatchObject({ kind: 'damaged' });
    await file.close();
  });

  it('refuses what the port says it refuses, by kind', async () => {
    await expect(disk.open('nothing', 'read')).rejects.toMatchObject({ kind: 'not-found' });
    await expect(disk.open('nothing', 'write')).rejects.toMatchObject({ kind: 'not-found' });
    const file = await disk.open('file', 'create');
    await expect(disk.open('file', 'create')).rejects.toMatchObject({ kind: 'in-use' });
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ kind: 'damaged' });
    await file.close();
  });

  it('lists, renames and removes, and does not mind what is not there', async () => {
    await disk.makeDirectory('a/b');
    await replaceFile(disk, 'a/b/one', Buffer.from('1'));
    await disk.rename('a/b/one', 'a/b/two');
    await disk.syncDirectory('a/b');
    expect(await disk.list('a/b')).toEqual(['two']);
    expect(await disk.list('a/c')).toEqual([]);
    await disk.remove('a/b/two');
    await disk.remove('a/b/two');
    expect(await disk.list('a/b')).toEqual([]);
  });

  it('replaces a small file whole, readable by this user alone', async () => {
    await replaceFile(disk, 'state', Buffer.from('old'));
    await replaceFile(disk, 'state', Buffer.from('new and longer'));
    expect((await readWhole(disk, 'state', 100))?.toString()).toBe('new and longer');
    expect(readFileSync(join(root, 'state'), 'utf8')).toBe('new and longer');
    expect(statSync(join(root, 'state')).mode & 0o777).toBe(0o600);
    await expect(readWhole(disk, 'state', 5)).rejects.toMatchObject({ kind: 'damaged' });
    expect(await readWhole(disk, 'none', 5)).toBeUndefined();
  });
});

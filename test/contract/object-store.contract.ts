import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FarshoreError } from '../../gateway/base/errors.ts';
import type { ObjectStore } from '../../gateway/cloud/object-store.ts';

export interface OpenedObjectStore {
  readonly store: ObjectStore;
  close(): Promise<void>;
}

/** What every ObjectStore must do. It leaves nothing behind and touches only keys of its own. */
export function objectStoreContract(name: string, open: () => Promise<OpenedObjectStore>): void {
  describe(`object store: ${name}`, () => {
    const root = `contract-test/${randomBytes(6).toString('hex')}/`;
    let opened: OpenedObjectStore;
    let store: ObjectStore;

    beforeAll(async () => {
      opened = await open();
      store = opened.store;
    });
    afterAll(async () => {
      for (const key of await keysUnder(store, root)) await store.delete([key]);
      await opened.close();
    });

    const put = (key: string, ...pieces: Buffer[]): Promise<'created' | 'exists'> =>
      store.put(root + key, pieces, crc32(Buffer.concat(pieces)));

    it('gives back what was put, whole, in one buffer', async () => {
      const pieces = [randomBytes(1), randomBytes(70_000), randomBytes(4096)];
      expect(await put('whole', ...pieces)).toBe('created');
      expect((await store.get(`${root}whole`))?.equals(Buffer.concat(pieces))).toBe(true);
    });

    it('tells size and CRC-32 of an object', async () => {
      const body = randomBytes(12_345);
      await put('head', body);
      expect(await store.head(`${root}head`)).toEqual({ bytes: 12_345, crc32: crc32(body) });
    });

    it('holds an object of many pieces and several MiB', async () => {
      const pieces = Array.from({ length: 100 }, (_, index) => randomBytes(index % 3 === 0 ? 100 : 65_536));
      await put('large', ...pieces);
      const whole = Buffer.concat(pieces);
      expect((await store.get(`${root}large`))?.equals(whole)).toBe(true);
      const range = await store.get(`${root}large`, { offset: 1_000_001, length: 65_536 });
      expect(range?.equals(whole.subarray(1_000_001, 1_065_537))).toBe(true);
    });

    it('holds an object without a single byte', async () => {
      expect(await put('empty')).toBe('created');
      expect(await store.get(`${root}empty`)).toEqual(Buffer.alloc(0));
      expect(await store.get(`${root}empty`, { offset: 0, length: 10 })).toEqual(Buffer.alloc(0));
      expect((await store.head(`${root}empty`))?.bytes).toBe(0);
    });

    it('never replaces an object', async () => {
      const body = randomBytes(500);
      expect(await put('once', body)).toBe('created');
      expect(await put('once', randomBytes(500))).toBe('exists');
      expect(await put('once', body)).toBe('exists');
      expect(await store.get(`${root}once`)).toEqual(body);
    });

    it('lets exactly one of many simultaneous puts win', async () => {
      const bodies = Array.from({ length: 16 }, () => randomBytes(20_000));
      const outcomes = await Promise.all(bodies.map((body) => put('race', body)));
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
      const winner = bodies[outcomes.indexOf('created')] ?? Buffer.alloc(0);
      expect((await store.get(`${root}race`))?.equals(winner)).toBe(true);
    });

    it('refuses bytes that are not what their checksum says, and stores nothing of them', async () => {
      const body = randomBytes(1000);
      const outcome = store.put(`${root}wrong`, [body], (crc32(body) ^ 1) >>> 0);
      await expect(outcome).rejects.toThrow(FarshoreError);
      await expect(outcome).rejects.toMatchObject({ kind: 'damaged' });
      expect(await store.head(`${root}wrong`)).toBeUndefined();
      expect(await put('wrong', body)).toBe('created');
    });

    it.each([
      ['inside', 10, 20, 10, 30],
      ['from the start', 0, 1, 0, 1],
      ['to the end', 90, 10, 90, 100],
      ['over the end', 90, 50, 90, 100],
      ['at the end', 100, 10, 100, 100],
      ['past the end', 5000, 10, 100, 100],
      ['of no length', 50, 0, 50, 50],
      ['whole', 0, 100, 0, 100],
    ])('answers a range %s with the bytes that exist', async (key, offset, length, from, to) => {
      const body = randomBytes(100);
      await put(`range/${key}`, body);
      expect(await store.get(`${root}range/${key}`, { offset, length })).toEqual(body.subarray(from, to));
    });

    it('knows nothing of what is not there', async () => {
      expect(await store.get(`${root}absent`)).toBeUndefined();
      expect(await store.get(`${root}absent`, { offset: 0, length: 10 })).toBeUndefined();
      expect(await store.get(`${root}absent`, { offset: 0, length: 0 })).toBeUndefined();
      expect(await store.head(`${root}absent`)).toBeUndefined();
    });

    it('gives every reader bytes of its own', async () => {
      const body = randomBytes(64);
      const kept = Buffer.from(body);
      await put('own', body);
      body.fill(0);
      (await store.get(`${root}own`))?.fill(1);
      expect(await store.get(`${root}own`)).toEqual(kept);
    });

    it('keeps an object and another one below its key', async () => {
      await put('nested', Buffer.from('above'));
      await put('nested/below', Buffer.from('below'));
      expect(await store.get(`${root}nested`)).toEqual(Buffer.from('above'));
      expect(await store.get(`${root}nested/below`)).toEqual(Buffer.from('below'));
      await store.delete([`${root}nested`]);
      expect(await store.get(`${root}nested/below`)).toEqual(Buffer.from('below'));
    });

    it('lists what begins with the prefix, ascending, with sizes, in pages that neither skip nor repeat', async () => {
      const names = Array.from({ length: 23 }, (_, index) => `list/a/${(index * 7) % 23}`);
      for (const key of names) await put(key, Buffer.alloc(key.length));
      await put('list/b', Buffer.alloc(1));
      await put('list/a', Buffer.alloc(1));
      const expected = names.map((key) => root + key).sort();
      for (const limit of [1, 4, 22, 23, 24, 1000]) {
        const found: string[] = [];
        let next: string | undefined;
        do {
          const page = await store.list(`${root}list/a/`, limit, next);
          expect(page.objects.length).toBeLessThanOrEqual(limit);
          if (page.next !== undefined) expect(page.objects.length).toBeGreaterThan(0);
          for (const { key, bytes } of page.objects) expect(bytes).toBe(key.length - root.length);
          found.push(...page.objects.map(({ key }) => key));
          next = page.next;
        } while (next !== undefined);
        expect(found).toEqual(expected);
      }
    });

    it('starts a listing after a key that need not exist', async () => {
      await put('after/1', Buffer.alloc(1));
      await put('after/3', Buffer.alloc(1));
      const keysAfter = async (start: string) =>
        (await store.list(`${root}after/`, 10, root + start)).objects.map(({ key }) => key);
      expect(await keysAfter('after/1')).toEqual([`${root}after/3`]);
      expect(await keysAfter('after/2')).toEqual([`${root}after/3`]);
      expect(await keysAfter('after/3')).toEqual([]);
      expect(await keysAfter('aft')).toEqual([`${root}after/1`, `${root}after/3`]);
    });

    it('lists nothing under a prefix without objects', async () => {
      expect(await store.list(`${root}nothing/`, 10)).toEqual({ objects: [], next: undefined });
    });

    it('deletes what is there, and does not mind what is not', async () => {
      await put('delete/1', Buffer.from('1'));
      await put('delete/2', Buffer.from('2'));
      await store.delete([`${root}delete/1`, `${root}delete/none`]);
      expect(await store.get(`${root}delete/1`)).toBeUndefined();
      expect(await keysUnder(store, `${root}delete/`)).toEqual([`${root}delete/2`]);
      await store.delete([`${root}delete/1`]);
      await store.delete([]);
    });

    it('takes a key again after its object was deleted', async () => {
      await put('again', Buffer.from('first'));
      await store.delete([`${root}again`]);
      expect(await put('again', Buffer.from('second'))).toBe('created');
      expect(await store.get(`${root}again`)).toEqual(Buffer.from('second'));
    });
  });
}

async function keysUnder(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  let next: string | undefined;
  do {
    const page = await store.list(prefix, 1000, next);
    keys.push(...page.objects.map(({ key }) => key));
    next = page.next;
  } while (next !== undefined);
  return keys;
}

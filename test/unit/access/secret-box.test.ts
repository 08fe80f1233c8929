import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../gateway/base/clock.ts';
import { SecretBox, type SecretUse } from '../../../gateway/access/secret-box.ts';
import { MemoryDisk } from '../../support/memory-disk.ts';

const SECRET = Buffer.from('correct horse battery');
const USE: SecretUse = { role: 'initiator', initiator: 'iqn.a', target: '*', user: 'u' };
const open = (disk: MemoryDisk): Promise<SecretBox> => SecretBox.open(disk, 'access.key', systemRandom);

describe('the box that secrets are wrapped in', () => {
  it('gives a secret back after a restart, and keeps no word of it in clear', async () => {
    const disk = new MemoryDisk();
    const wrapped = await (await open(disk)).wrap(SECRET, USE);
    expect(JSON.stringify(wrapped)).not.toContain(SECRET.toString('base64').slice(0, 8));
    expect(disk.text('access.key')).not.toContain(SECRET.toString());
    expect((await open(disk)).unwrap(wrapped, USE)).toEqual(SECRET);
  });

  it('wraps the same secret differently each time', async () => {
    const box = await open(new MemoryDisk());
    expect((await box.wrap(SECRET, USE)).data).not.toBe((await box.wrap(SECRET, USE)).data);
  });

  it.each([
    ['another initiator', { initiator: 'iqn.b' }],
    ['another target', { target: 'iqn.t' }],
    ['another user', { user: 'v' }],
    ['the other direction', { role: 'target' as const }],
  ])(
    'does not let a secret pass for that of %s, which somebody with the table in hand might try',
    async (_what, other) => {
      const box = await open(new MemoryDisk());
      const wrapped = await box.wrap(SECRET, USE);
      expect(() => box.unwrap(wrapped, { ...USE, ...other })).toThrow(/set it again/);
    },
  );

  it('notices a changed secret', async () => {
    const box = await open(new MemoryDisk());
    const wrapped = await box.wrap(SECRET, USE);
    const bytes = Buffer.from(wrapped.data, 'base64');
    bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0);
    expect(() => box.unwrap({ ...wrapped, data: bytes.toString('base64') }, USE)).toThrow(/set it again/);
    expect(() => box.unwrap({ ...wrapped, data: '' }, USE)).toThrow(/set it again/);
  });

  it('says which key is missing, and reads everything once it was imported; its own stays the one that wraps', async () => {
    const theirs = await open(new MemoryDisk());
    const wrapped = await theirs.wrap(SECRET, USE);
    const disk = new MemoryDisk();
    const mine = await open(disk);
    const own = await mine.wrap(SECRET, USE);
    expect(mine.canUnwrap(wrapped)).toBe(false);
    expect(() => mine.unwrap(wrapped, USE)).toThrow(/farshore access key import/);
    expect(await mine.import(`${await theirs.export()}\n`)).toEqual([wrapped.key]);
    expect(mine.unwrap(wrapped, USE)).toEqual(SECRET);
    expect((await mine.wrap(SECRET, USE)).key).toBe(own.key);
    const again = await open(disk);
    expect(again.keyIds()).toEqual([own.key, wrapped.key]);
    expect(again.unwrap(wrapped, USE)).toEqual(SECRET);
  });

  it('exports what it has imported too: the gateway that had it may be gone when its secrets move on', async () => {
    const first = await open(new MemoryDisk());
    const wrapped = await first.wrap(SECRET, USE);
    const second = await open(new MemoryDisk());
    const own = await second.wrap(SECRET, USE);
    await second.import(await first.export());
    const exported = await second.export();
    const third = await open(new MemoryDisk());
    expect(await third.import(exported)).toEqual([own.key, wrapped.key]);
    expect(third.unwrap(wrapped, USE)).toEqual(SECRET);
    const fourth = await open(new MemoryDisk(new Map([['access.key', Buffer.from(`${exported}\n`)]])));
    expect(fourth.unwrap(wrapped, USE)).toEqual(SECRET);
    expect(fourth.unwrap(own, USE)).toEqual(SECRET);
  });

  it('makes one key, however many need it first at once', async () => {
    const theirs = await (await open(new MemoryDisk())).export();
    const disk = new MemoryDisk();
    const box = await open(disk);
    const [wrapped, exported] = await Promise.all([box.wrap(SECRET, USE), box.export(), box.import(theirs)]);
    const again = await open(disk);
    expect(again.unwrap(wrapped, USE)).toEqual(SECRET);
    expect(again.keyIds()).toHaveLength(2);
    expect((await open(new MemoryDisk(new Map([['access.key', Buffer.from(exported)]])))).unwrap(wrapped, USE)).toEqual(
      SECRET,
    );
  });

  it('takes an exported key as its key file', async () => {
    const theirs = await open(new MemoryDisk());
    const wrapped = await theirs.wrap(SECRET, USE);
    const disk = new MemoryDisk(new Map([['access.key', Buffer.from(`${await theirs.export()}\n`)]]));
    expect((await open(disk)).unwrap(wrapped, USE)).toEqual(SECRET);
  });

  it('makes no key that would be lost: when it cannot be written nothing is wrapped', async () => {
    const disk = new MemoryDisk();
    const box = await open(disk);
    disk.before = () => {
      throw new Error('full');
    };
    await expect(box.wrap(SECRET, USE)).rejects.toThrow('full');
    disk.before = undefined;
    const wrapped = await box.wrap(SECRET, USE);
    expect((await open(disk)).unwrap(wrapped, USE)).toEqual(SECRET);
  });

  it.each(['{', '{"format":1,"keys":[]}', 'farshore-access-key-1:12'])(
    'refuses a damaged file (%s), and quotes none of it',
    async (text) => {
      const disk = new MemoryDisk(new Map([['access.key', Buffer.from(text)]]));
      await expect(open(disk)).rejects.toMatchObject({
        kind: 'damaged',
        message: expect.not.stringContaining(text) as string,
      });
    },
  );

  it('refuses what is no key', async () => {
    await expect((await open(new MemoryDisk())).import('hunter2hunter2')).rejects.toMatchObject({
      kind: 'input',
      message: expect.not.stringContaining('hunter2') as string,
    });
  });
});

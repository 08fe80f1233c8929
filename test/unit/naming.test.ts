import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../gateway/base/clock.ts';
import { formatDuration, formatSize, parseSize } from '../../gateway/base/size.ts';
import { checkVolumeSize, defaultTarget, newNaa } from '../../gateway/naming.ts';
import { SerialByKey } from '../../gateway/serial.ts';

describe('the designator of a volume', () => {
  it('is NAA 6 with a locally administered company id, and differs from volume to volume', () => {
    const first = newNaa(systemRandom);
    const second = newNaa(systemRandom);
    for (const naa of [first, second]) {
      expect(naa).toHaveLength(16);
      expect((naa[0] ?? 0) >> 4).toBe(6);
      const companyId = naa.readUIntBE(0, 4).toString(16).slice(1, 7);
      expect(companyId).toBe('faf540');
      expect(parseInt(companyId.slice(0, 2), 16) & 0b11).toBe(0b10);
    }
    expect(first.equals(second)).toBe(false);
  });
});

describe('names and sizes', () => {
  it('puts the volume behind the gateway in its target name, within what iSCSI allows', () => {
    expect(defaultTarget('iqn.2026-11.dev.farshore:office', 'data')).toBe('iqn.2026-11.dev.farshore:office:data');
    expect(() => defaultTarget(`iqn.2026-11.${'x'.repeat(200)}`, 'a-long-volume-name')).toThrow('223 bytes');
  });

  it('takes volumes of whole blocks from 1 MiB to 64 TiB', () => {
    expect(() => {
      checkVolumeSize(64 * 1024 ** 4);
      checkVolumeSize(1024 ** 2);
    }).not.toThrow();
    for (const bytes of [0, 4096, 1024 ** 2 + 512, 64 * 1024 ** 4 + 4096]) {
      expect(() => {
        checkVolumeSize(bytes);
      }).toThrow();
    }
  });

  it.each([
    ['4096', 4096],
    ['100M', 100 * 1024 ** 2],
    ['10g', 10 * 1024 ** 3],
    ['1.5 TiB', 1.5 * 1024 ** 4],
    ['16T', 16 * 1024 ** 4],
  ])('reads %s as %d bytes', (text, bytes) => {
    expect(parseSize(text, 'size')).toBe(bytes);
  });

  it.each(['', 'M', '-1', '1Q', '0.3', '99999999T'])('refuses "%s" as a size', (text) => {
    expect(() => parseSize(text, '--size')).toThrow('--size');
  });

  it('writes sizes and durations for people', () => {
    expect([formatSize(0), formatSize(1536), formatSize(20 * 1024 ** 3)]).toEqual(['0 B', '1.50 KiB', '20.0 GiB']);
    expect([formatDuration(12), formatDuration(3210), formatDuration(250_000), formatDuration(7_500_000)]).toEqual([
      '12 ms',
      '3.2 s',
      '4 min 10 s',
      '2 h 5 min',
    ]);
  });
});

describe('works in series', () => {
  it('follow one another for one key, also after a failure, and run side by side for others', async () => {
    const serial = new SerialByKey();
    const seen: string[] = [];
    const gates = new Map<string, () => void>();
    const work = (name: string) => async () => {
      seen.push(`${name} begins`);
      await new Promise<void>((resolve) => gates.set(name, resolve));
      seen.push(`${name} ends`);
      if (name === 'a1') throw new Error('a1 fails');
    };
    const all = [serial.run('a', work('a1')), serial.run('a', work('a2')), serial.run('b', work('b1'))];
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    await turn();
    expect(seen).toEqual(['a1 begins', 'b1 begins']);
    gates.get('a1')?.();
    await expect(all[0]).rejects.toThrow('a1 fails');
    await turn();
    expect(seen).toEqual(['a1 begins', 'b1 begins', 'a1 ends', 'a2 begins']);
    gates.get('a2')?.();
    gates.get('b1')?.();
    await all[1];
    await all[2];
  });
});

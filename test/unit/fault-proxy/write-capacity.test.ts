import { describe, expect, it } from 'vitest';
import { WriteCapacity, writesOf } from '../../support/fault-proxy/write-capacity.ts';
import { ManualClock } from '../initiator/manual-clock.ts';

const body = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const version = (volume: string, inlineBytes: number): Buffer =>
  body({
    TableName: 'farshore',
    Item: {
      pk: { S: `log#${volume}` },
      sk: { S: '0000000000000001' },
      inline: { B: Buffer.alloc(inlineBytes).toString('base64') },
    },
  });

describe('the write capacity of a partition', () => {
  it('is one unit for each KiB of an item that was begun', () => {
    const units = (bytes: number): readonly number[] => [...writesOf('PutItem', version('one', bytes)).values()];
    expect(units(0)).toEqual([1]);
    // Of the item's 1,024 bytes the names, the key and the sort key take 33.
    expect(units(1024 - 33)).toEqual([1]);
    expect(units(1024 - 32)).toEqual([2]);
    expect(units(100_000)).toEqual([98]);
    expect([...writesOf('GetItem', body({ Key: { pk: { S: 'a' } } })).values()]).toEqual([]);
    const batch = [{ DeleteRequest: { Key: { pk: { S: 'a' } } } }, { DeleteRequest: { Key: { pk: { S: 'b' } } } }];
    expect([
      ...writesOf('BatchWriteItem', body({ RequestItems: { farshore: [...batch, ...batch] } })).values(),
    ]).toEqual([2, 2]);
  });

  it('gives so many units a second to each partition key, and saves nothing up', () => {
    const clock = new ManualClock();
    const capacity = new WriteCapacity(clock);
    capacity.unitsPerSecond = 1000;
    const put = (volume: string): boolean => capacity.take('PutItem', version(volume, 99 * 1024));
    clock.advance(60_000);
    const granted = (volume: string): number => {
      let count = 0;
      while (put(volume)) count += 1;
      return count;
    };
    expect(granted('one')).toBe(10);
    expect(granted('two')).toBe(10);
    clock.advance(50);
    expect(put('one')).toBe(false);
    clock.advance(50);
    expect(put('one')).toBe(true);
    expect(put('one')).toBe(false);
    expect(capacity.throttled).toBe(4);
  });

  it('is without bounds unless one is set', () => {
    const capacity = new WriteCapacity(new ManualClock());
    for (let count = 0; count < 5; count += 1) expect(capacity.take('PutItem', version('one', 300_000))).toBe(true);
  });
});

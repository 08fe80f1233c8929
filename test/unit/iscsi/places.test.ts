import { expect, test } from 'vitest';
import { Places } from '../../../gateway/iscsi/places.ts';

const LIMITS = { maxConnections: 3, maxConnectionsPerAddress: 2, maxLogins: 4, maxLoginsPerAddress: 2 };

test('the oldest visitor of an origin makes room for its newest', () => {
  const places = new Places<string>(LIMITS);
  expect(places.arrive('a1', 'a')).toBeUndefined();
  expect(places.arrive('a2', 'a')).toBeUndefined();
  expect(places.arrive('a3', 'a')).toBe('a1');
});

test('where all origins together are too many, the one with most visitors loses its oldest', () => {
  const places = new Places<string>(LIMITS);
  for (const name of ['a1', 'b1', 'b2', 'c1']) expect(places.arrive(name, name.charAt(0))).toBeUndefined();
  expect(places.arrive('d1', 'd')).toBe('b1');
});

test('a seat is neither taken away nor given beyond the limits, and can be had again', () => {
  const places = new Places<string>(LIMITS);
  const come = (name: string): string | undefined => {
    expect(places.arrive(name, name.charAt(0))).toBeUndefined();
    return places.sit(name);
  };
  expect([come('a1'), come('a2'), come('a3')]).toEqual([
    undefined,
    undefined,
    'too many connections from this address',
  ]);
  expect([come('b1'), come('c1')]).toEqual([undefined, 'too many connections']);
  places.rise('a1');
  expect(places.sit('c1')).toBeUndefined();
  expect(places.arrive('a4', 'a'), 'what is closing is the oldest there is').toBe('a3');
  places.leave('c1');
  places.leave('a3');
  expect(places.sit('a4')).toBeUndefined();
});

import { describe, expect, it } from 'vitest';
import { credentialProblems } from '../../../gateway/access/credentials.ts';
import { EMPTY_DOCUMENT, type AccessBody, type AccessDocument, type Chap } from '../../../gateway/access/document.ts';
import {
  addInitiator,
  createTarget,
  deleteTarget,
  mapVolume,
  removeInitiator,
  setChap,
  setDiscoveryChap,
  unmapVolume,
} from '../../../gateway/access/operations.ts';
import { adoptVolume, bodyOf } from '../../../gateway/access/part.ts';
import { chapFor, contestedMaps, effectiveMaps, hasCredentials } from '../../../gateway/access/resolve.ts';

const GRANT = { since: 1, by: 'cli:root' };
const HOST = 'iqn.2026-11.com.example:host';
const IQN = 'iqn.2026-11.dev.farshore:office1';
const SHARED = `${IQN}:shared`;

const volume = (name: string) => ({ volume: `id-${name}`, name, target: `${IQN}:${name}` });
/** A later `since` is what a clock says, and must decide nothing. */
const chap = (user: string, since = 1): Chap => ({
  since,
  by: 'cli:root',
  user,
  secret: { key: '0123456789abcdef', nonce: user, data: user },
});

/** A gateway with these volumes, mapped for HOST. */
function gateway(...names: string[]): AccessDocument {
  let document = addInitiator(createTarget(EMPTY_DOCUMENT, SHARED, GRANT), HOST, GRANT);
  for (const name of names) document = map(adoptVolume(document, volume(name), undefined).document, name);
  return document;
}

const map = (document: AccessDocument, name: string, target?: string): AccessDocument =>
  mapVolume(document, { volume: name, initiator: HOST, target, lun: undefined, readOnly: false, addresses: [] }, GRANT)
    .document;

const unmap = (document: AccessDocument, name: string): AccessDocument =>
  unmapVolume(document, { volume: name, initiator: HOST, target: undefined }).document;

const partOf = (document: AccessDocument, name: string) => {
  const part = document.volumes.find((each) => each.name === name);
  if (part === undefined) throw new Error(`no volume ${name}`);
  return part;
};

/** What lies in the table of the volume, as a newer form than any here. */
const itemOf = (document: AccessDocument, name: string): AccessBody => ({
  ...bodyOf(document, partOf(document, name)),
  stamp: { epoch: 5, revision: 9 },
});

const take = (document: AccessDocument, name: string, body: AccessBody): AccessDocument =>
  adoptVolume(document, volume(name), body).document;

/** Whom a login of HOST has to be, to reach the volume at its own target. */
const userOf = (document: AccessDocument, name: string, target = `${IQN}:${name}`): string | undefined =>
  chapFor(document, HOST, target, partOf(document, name))?.chap.user;

describe('the credentials of a volume that comes with a newer form', () => {
  it('one that was cleared stays cleared, whatever the clocks say: of a target, in general, of discovery', () => {
    const T = `${IQN}:v`;
    let here = setChap(gateway('v'), HOST, undefined, chap('general', 9000));
    here = setChap(here, HOST, T, chap('stolen', 9000));
    here = setDiscoveryChap(here, undefined, chap('stolen-discovery', 9000));
    here = setDiscoveryChap(here, HOST, chap('stolen-own-discovery', 9000));
    const noOwn = setChap(here, HOST, T, undefined);
    const back = take(here, 'v', itemOf(noOwn, 'v'));
    expect(userOf(back, 'v')).toBe('general');
    expect(bodyOf(back, partOf(back, 'v')).initiators[0]?.targets).toEqual([]);

    let nothing = setChap(noOwn, HOST, undefined, undefined);
    nothing = setDiscoveryChap(setDiscoveryChap(nothing, HOST, undefined), undefined, undefined);
    const open = take(here, 'v', itemOf(nothing, 'v'));
    expect(userOf(open, 'v')).toBeUndefined();
    expect(open.discovery).toEqual([]);
    expect(hasCredentials(open)).toBe(false);
    expect(credentialProblems(open)).toEqual([]);
  });

  it('one that was replaced stays replaced by a gateway whose clock is behind', () => {
    const here = setChap(gateway('v'), HOST, undefined, chap('stolen', 9000));
    const back = take(here, 'v', itemOf(setChap(here, HOST, undefined, chap('new', 5)), 'v'));
    expect(userOf(back, 'v')).toBe('new');
    expect(back.initiators[0]?.chap?.user).toBe('new');
  });

  it('an initiator that was unmapped there and had its credential here for this volume has to be made known anew', () => {
    const here = setDiscoveryChap(setChap(gateway('v'), HOST, undefined, chap('stolen')), HOST, chap('stolen-too'));
    const gone = take(here, 'v', itemOf(unmap(here, 'v'), 'v'));
    expect(gone.initiators).toEqual([]);
    expect(gone.discovery).toEqual([]);
    expect(() => map(gone, 'v')).toThrow(/make it known first/);
    // Where another volume needs it, it stays.
    const two = setChap(gateway('v', 'w'), HOST, undefined, chap('general'));
    const still = take(two, 'v', itemOf(unmap(two, 'v'), 'v'));
    expect(userOf(still, 'w')).toBe('general');
  });

  it('decides nothing about another volume, which keeps what its administrator gave it, and both are told', () => {
    const there = setChap(gateway('v'), HOST, undefined, chap('of-a', 9000));
    const here = setChap(gateway('w'), HOST, undefined, chap('of-b'));
    const both = take(here, 'v', itemOf(there, 'v'));
    expect(userOf(both, 'w')).toBe('of-b');
    expect(userOf(both, 'v')).toBe('of-a');
    expect(both.initiators).toEqual(here.initiators);
    expect(credentialProblems(both)).toEqual([
      expect.stringMatching(/volume v .*host.*farshore initiator chap iqn.2026-11.com.example:host --user/),
    ]);
    // What goes to the table stays each one's own.
    expect(bodyOf(both, partOf(both, 'v')).initiators[0]?.chap?.user).toBe('of-a');
    expect(bodyOf(both, partOf(both, 'w')).initiators[0]?.chap?.user).toBe('of-b');
  });

  it('is settled by an administrator who sets one for all, or removes it', () => {
    const there = setChap(gateway('v'), HOST, undefined, chap('of-a'));
    const both = take(setChap(gateway('w'), HOST, undefined, chap('of-b')), 'v', itemOf(there, 'v'));
    const one = setChap(both, HOST, undefined, chap('one'));
    expect([userOf(one, 'v'), userOf(one, 'w')]).toEqual(['one', 'one']);
    expect(credentialProblems(one)).toEqual([]);
    expect(partOf(one, 'v').own).toBeUndefined();
    const none = setChap(both, HOST, undefined, undefined);
    expect([userOf(none, 'v'), userOf(none, 'w')]).toEqual([undefined, undefined]);
    const removed = removeInitiator(unmap(unmap(both, 'v'), 'w'), HOST);
    expect(partOf(removed, 'v').own).toBeUndefined();
  });

  it('is not undone by unmapping and mapping again, nor by a target of the same name made anew', () => {
    const there = setChap(gateway('v'), HOST, undefined, chap('new'));
    const both = take(setChap(gateway('w'), HOST, undefined, chap('stolen')), 'v', itemOf(there, 'v'));
    expect(userOf(map(unmap(both, 'v'), 'v'), 'v')).toBe('new');

    const own = setChap(map(there, 'v', SHARED), HOST, SHARED, chap('old-own'));
    const taken = take(setChap(gateway('w'), HOST, undefined, chap('other')), 'v', itemOf(own, 'v'));
    expect(userOf(taken, 'v', SHARED)).toBe('old-own');
    const without = createTarget(deleteTarget(unmap(taken, 'v'), SHARED), SHARED, GRANT);
    expect(userOf(map(without, 'v', SHARED), 'v', SHARED)).toBe('new');
  });

  it('that came without one asks for that of this gateway once its administrator has unmapped and mapped it anew', () => {
    const here = setChap(setChap(gateway('w'), HOST, undefined, chap('of-b')), HOST, SHARED, chap('of-b-shared'));
    const both = take(here, 'v', itemOf(gateway('v'), 'v'));
    expect(userOf(both, 'v')).toBeUndefined();
    expect(credentialProblems(both)).toEqual([
      expect.stringMatching(/volume v asks .*host for no CHAP credential.*whoever takes that name.*initiator chap/),
    ]);
    const unmapped = unmap(both, 'v');
    expect(partOf(unmapped, 'v').own).toBeUndefined();
    expect(userOf(map(unmapped, 'v'), 'v')).toBe('of-b');
    expect(userOf(map(unmapped, 'v', SHARED), 'v', SHARED)).toBe('of-b-shared');
    // While a map of it is left it is the same grant as before.
    const two = take(here, 'v', itemOf(map(gateway('v'), 'v', SHARED), 'v'));
    const one = unmapVolume(two, { volume: 'v', initiator: HOST, target: SHARED }).document;
    expect(userOf(one, 'v')).toBeUndefined();
  });

  it('that came with one of a single target keeps it over an unmap, and asks elsewhere for that of this gateway', () => {
    const there = setChap(map(gateway('v'), 'v', SHARED), HOST, SHARED, chap('of-a-shared'));
    const both = take(setChap(gateway('w'), HOST, undefined, chap('of-b')), 'v', itemOf(there, 'v'));
    expect([userOf(both, 'v'), userOf(both, 'v', SHARED)]).toEqual([undefined, 'of-a-shared']);
    const anew = map(map(unmap(both, 'v'), 'v'), 'v', SHARED);
    expect([userOf(anew, 'v'), userOf(anew, 'v', SHARED)]).toEqual(['of-b', 'of-a-shared']);
  });

  it('one of a target that was this volume its alone is gone with it, also where the initiator has others here', () => {
    let here = setChap(map(gateway('v', 'w'), 'v', SHARED), HOST, undefined, chap('of-b'));
    here = setChap(here, HOST, SHARED, chap('stolen'));
    let there = setChap(here, HOST, SHARED, undefined);
    there = unmapVolume(there, { volume: 'v', initiator: HOST, target: SHARED }).document;
    there = setChap(there, HOST, undefined, chap('of-a'));
    const back = take(here, 'v', itemOf(there, 'v'));
    expect([userOf(back, 'v'), userOf(back, 'w')]).toEqual(['of-a', 'of-b']);
    expect(userOf(map(back, 'v', SHARED), 'v', SHARED)).toBe('of-a');
    expect(userOf(map(back, 'w', SHARED), 'w', SHARED)).toBe('of-b');
  });

  it('two volumes lost together come back one after the other without a conflict that stays', () => {
    const here = setChap(gateway('v', 'w'), HOST, undefined, chap('stolen', 9000));
    const there = setChap(here, HOST, undefined, chap('new'));
    const first = take(here, 'v', itemOf(there, 'v'));
    expect(userOf(first, 'v')).toBe('new');
    expect(userOf(first, 'w')).toBe('stolen');
    const second = take(first, 'w', itemOf(there, 'w'));
    expect([userOf(second, 'v'), userOf(second, 'w')]).toEqual(['new', 'new']);
    expect(credentialProblems(second)).toEqual([]);
    expect(second.initiators[0]?.chap?.user).toBe('new');
  });

  it('leaves alone what was prepared here for an initiator that nothing is mapped for yet', () => {
    let here = addInitiator(EMPTY_DOCUMENT, HOST, GRANT);
    here = setChap(here, HOST, undefined, chap('prepared'));
    here = setDiscoveryChap(here, undefined, chap('prepared'));
    const open = take(here, 'v', itemOf(gateway('v'), 'v'));
    expect(userOf(open, 'v')).toBeUndefined();
    expect(open.initiators[0]?.chap?.user).toBe('prepared');
    expect(open.discovery.map((entry) => entry.chap.user)).toEqual(['prepared']);
    expect(credentialProblems(open)).toHaveLength(2);
  });

  it('a discovery credential is the gateway its own where it serves others, and the volume carries its own on', () => {
    const there = setDiscoveryChap(gateway('v'), undefined, chap('of-a'));
    const both = take(setDiscoveryChap(gateway('w'), undefined, chap('of-b')), 'v', itemOf(there, 'v'));
    expect(both.discovery.map((entry) => entry.chap.user)).toEqual(['of-b']);
    expect(bodyOf(both, partOf(both, 'v')).discovery.map((entry) => entry.chap.user)).toEqual(['of-a']);
    expect(credentialProblems(both)).toEqual([expect.stringMatching(/farshore access discovery-chap/)]);
    expect(credentialProblems(setDiscoveryChap(both, undefined, chap('one')))).toEqual([]);
  });

  it('of two volumes at one target that ask for different ones, the one that was here first is seen', () => {
    const there = setChap(map(gateway('v'), 'v', SHARED), HOST, undefined, chap('of-a'));
    const here = setChap(map(gateway('w'), 'w', SHARED), HOST, undefined, chap('of-b'));
    const item = itemOf(there, 'v');
    const both = take(here, 'v', { ...item, maps: item.maps.map((each) => ({ ...each, lun: 7 })) });
    const contested = contestedMaps(both, effectiveMaps(both).maps);
    expect(contested).toMatchObject([{ part: { name: 'v' }, map: { target: SHARED }, by: 'w' }]);
    const one = setChap(both, HOST, undefined, chap('one'));
    expect(contestedMaps(one, effectiveMaps(one).maps)).toEqual([]);
  });
});

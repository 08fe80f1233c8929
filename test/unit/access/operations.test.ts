import { describe, expect, it } from 'vitest';
import { FarshoreError } from '../../../gateway/base/errors.ts';
import { addressMatcher, parseAddressRange } from '../../../gateway/access/address.ts';
import { documentSchema, EMPTY_DOCUMENT, type AccessDocument, type Chap } from '../../../gateway/access/document.ts';
import {
  addInitiator,
  createTarget,
  deleteTarget,
  mapVolume,
  type MapRequest,
  parseIscsiName,
  parseTargetName,
  removeInitiator,
  setChap,
  setDiscoveryChap,
  setUnitState,
  unmapVolume,
} from '../../../gateway/access/operations.ts';
import { adoptVolume, bodyOf, decodeBody, encodeBody, restamp } from '../../../gateway/access/part.ts';
import { effectiveMaps } from '../../../gateway/access/resolve.ts';

const GRANT = { since: 1000, by: 'cli:root' };
const HOST = 'iqn.2026-11.com.example:host';
const OTHER = 'iqn.2026-11.com.example:other';
const IQN = 'iqn.2026-11.dev.farshore:office1';

const volume = (name: string) => ({ volume: `id-${name}`, name, target: `${IQN}:${name}` });
const chap = (user: string): Chap => ({
  since: 1000,
  by: 'cli:root',
  user,
  secret: { key: '0123456789abcdef', nonce: 'n', data: 'd' },
});

/** Volumes a and b, initiators HOST and OTHER, a target `shared`. */
function world(): AccessDocument {
  let document = adoptVolume(EMPTY_DOCUMENT, volume('a'), undefined).document;
  document = adoptVolume(document, volume('b'), undefined).document;
  document = addInitiator(addInitiator(document, HOST, GRANT), OTHER, GRANT);
  return createTarget(document, `${IQN}:shared`, GRANT);
}

const request = (changes: Partial<MapRequest> = {}): MapRequest => ({
  volume: 'a',
  initiator: HOST,
  target: undefined,
  lun: undefined,
  readOnly: false,
  addresses: [],
  ...changes,
});

const map = (document: AccessDocument, changes: Partial<MapRequest> = {}): AccessDocument =>
  mapVolume(document, request(changes), GRANT).document;

function refusal(work: () => unknown): { kind: string; message: string } {
  try {
    work();
  } catch (error) {
    if (error instanceof FarshoreError) return { kind: error.kind, message: error.message };
    throw error;
  }
  throw new Error('was accepted');
}

describe('names', () => {
  it('takes iqn, eui and naa names, in any case, and compares them normalised', () => {
    expect(parseIscsiName('IQN.2026-11.com.Example:Host', 'the initiator')).toBe(HOST);
    expect(parseIscsiName('eui.02004567A425678D', 'the initiator')).toBe('eui.02004567a425678d');
    expect(parseIscsiName('naa.52004567BA64678D', 'the initiator')).toBe('naa.52004567ba64678d');
    expect(refusal(() => parseIscsiName('host1', 'the initiator'))).toEqual({
      kind: 'input',
      message: expect.stringContaining('the initiator "host1" is no iSCSI name; write it like') as string,
    });
  });

  it('puts a short target name behind the gateway, and takes a full one as it is', () => {
    expect(parseTargetName('shared', IQN)).toBe(`${IQN}:shared`);
    expect(parseTargetName('eui.02004567A425678D', IQN)).toBe('eui.02004567a425678d');
    expect(refusal(() => parseTargetName('a b', IQN)).kind).toBe('input');
  });
});

describe('addresses', () => {
  it.each([
    ['10.1.2.3', ['10.1.2.3'], ['10.1.2.4', '::1']],
    ['10.1.2.0/24', ['10.1.2.0', '10.1.2.255'], ['10.1.3.0']],
    ['fd00::/64', ['fd00::7'], ['fd00:0:0:1::7', '10.1.2.3']],
    ['::ffff:10.1.2.3', ['10.1.2.3'], ['10.1.2.4']],
    ['0.0.0.0/0', ['1.2.3.4'], ['fd00::7']],
  ])('%s lets in %s and not %s', (range, inside, outside) => {
    const matches = addressMatcher([parseAddressRange(range)]);
    for (const address of inside) expect(matches(address), address).toBe(true);
    for (const address of outside) expect(matches(address), address).toBe(false);
    expect(matches('')).toBe(false);
  });

  it('is everybody where none is named', () => {
    expect(addressMatcher([])('anything')).toBe(true);
  });

  it.each(['10.1.2', '10.1.2.3/33', 'fd00::/129', 'host', '10.0.0.0/8/8', '10.0.0.0/', ''])('refuses %j', (text) => {
    expect(refusal(() => parseAddressRange(text)).message).toContain('write it like');
  });
});

describe('maps', () => {
  it('makes a volume mapped at its own target, at LUN 0, and it stays mapped when the last map goes', () => {
    const mapped = mapVolume(world(), request(), GRANT);
    expect(mapped.map).toEqual({
      initiator: HOST,
      target: `${IQN}:a`,
      lun: 0,
      readOnly: false,
      addresses: [],
      ...GRANT,
    });
    expect(mapped.document.volumes[0]?.mode).toBe('mapped');
    const gone = unmapVolume(mapped.document, { volume: 'a', initiator: HOST, target: undefined });
    expect(gone.document.volumes[0]).toMatchObject({ mode: 'mapped', maps: [] });
  });

  it('gives each initiator its own LUNs at a target, the lowest free first', () => {
    let document = map(world(), { target: `${IQN}:shared` });
    const second = mapVolume(document, request({ volume: 'b', target: `${IQN}:shared` }), GRANT);
    expect(second.map.lun).toBe(1);
    document = second.document;
    expect(
      mapVolume(document, request({ volume: 'b', initiator: OTHER, target: `${IQN}:shared` }), GRANT).map.lun,
    ).toBe(0);
  });

  it('changes a map that is there, and keeps its LUN', () => {
    const document = map(world(), { lun: 7 });
    const changed = mapVolume(document, request({ readOnly: true, addresses: ['10.0.0.0/8', '10.0.0.0/8'] }), GRANT);
    expect(changed.map).toMatchObject({ lun: 7, readOnly: true, addresses: ['10.0.0.0/8'] });
    expect(changed.document.volumes[0]?.maps).toHaveLength(1);
  });

  it.each([
    ['an unknown volume', { volume: 'x' }, 'not-found', 'volume x is not served'],
    ['an unknown initiator', { initiator: 'iqn.2026-11.com.example:x' }, 'not-found', 'farshore initiator add'],
    ['an unknown target', { target: `${IQN}:x` }, 'not-found', 'farshore target create'],
    ['a LUN that is none', { lun: 256 }, 'input', 'from 0 to 255'],
    ['an address that is none', { addresses: ['office'] }, 'input', '"office" is no address'],
    ['a LUN that another volume has', { volume: 'b', target: `${IQN}:a`, lun: 0 }, 'in-use', 'volume a'],
  ])('refuses %s and says what to do', (_what, changes, kind, sentence) => {
    const document = map(world());
    expect(refusal(() => map(document, changes))).toEqual({
      kind,
      message: expect.stringContaining(sentence) as string,
    });
  });

  it('refuses LUN 0 of the target of a volume that is still open', () => {
    expect(refusal(() => map(world(), { target: `${IQN}:b`, lun: 0 })).kind).toBe('in-use');
    expect(mapVolume(world(), request({ target: `${IQN}:b` }), GRANT).map.lun).toBe(1);
  });

  it('refuses to take away what is not there', () => {
    expect(refusal(() => unmapVolume(world(), { volume: 'a', initiator: HOST, target: undefined }))).toMatchObject({
      kind: 'not-found',
    });
  });
});

describe('targets and initiators', () => {
  it('keeps a target and an initiator while something is mapped there', () => {
    const document = map(world(), { target: `${IQN}:shared` });
    expect(refusal(() => deleteTarget(document, `${IQN}:shared`)).message).toContain('farshore unmap a --initiator');
    expect(refusal(() => removeInitiator(document, HOST)).message).toContain('farshore unmap a --initiator');
    const free = unmapVolume(document, { volume: 'a', initiator: HOST, target: undefined }).document;
    expect(deleteTarget(free, `${IQN}:shared`).targets).toEqual([]);
    expect(removeInitiator(free, HOST).initiators.map((each) => each.name)).toEqual([OTHER]);
    const unknown = refusal(() => removeInitiator(free, 'iqn.2026-11.com.example:none')).message;
    expect(unknown).toContain('farshore initiator list');
    expect(unknown).not.toContain('initiator add');
  });

  it('never makes or deletes the target that belongs to a volume', () => {
    expect(refusal(() => createTarget(world(), `${IQN}:a`, GRANT)).kind).toBe('in-use');
    expect(refusal(() => deleteTarget(world(), `${IQN}:a`)).kind).toBe('input');
    expect(refusal(() => createTarget(world(), `${IQN}:shared`, GRANT)).kind).toBe('in-use');
    expect(refusal(() => addInitiator(world(), HOST, GRANT)).kind).toBe('in-use');
  });

  it('keeps a credential for every target and one for a single target apart', () => {
    let document = setChap(world(), HOST, undefined, chap('general'));
    document = setChap(document, HOST, `${IQN}:a`, chap('special'));
    expect(document.initiators[0]).toMatchObject({
      chap: { user: 'general' },
      targets: [{ target: `${IQN}:a`, chap: { user: 'special' } }],
    });
    document = setChap(document, HOST, undefined, undefined);
    expect(document.initiators[0]?.chap).toBeUndefined();
    expect(document.initiators[0]?.targets).toHaveLength(1);
    expect(refusal(() => setChap(document, HOST, undefined, undefined)).kind).toBe('not-found');
    expect(refusal(() => setChap(document, HOST, `${IQN}:x`, chap('x'))).kind).toBe('not-found');
    expect(refusal(() => setDiscoveryChap(document, undefined, undefined)).kind).toBe('not-found');
  });
});

describe('what travels with a volume', () => {
  it('is its maps, and the initiators, credentials and targets they need: nothing of others', () => {
    let document = map(world(), { target: `${IQN}:shared` });
    document = setChap(document, HOST, `${IQN}:b`, chap('elsewhere'));
    document = setChap(document, HOST, undefined, chap('general'));
    document = setChap(document, OTHER, undefined, chap('private'));
    document = setDiscoveryChap(document, undefined, chap('all'));
    document = setDiscoveryChap(document, OTHER, chap('others'));
    const [a] = document.volumes;
    if (a === undefined) throw new Error('no volume');
    const body = decodeBody(encodeBody(bodyOf(document, a)), 'a');
    expect(body.initiators).toEqual([{ name: HOST, ...GRANT, chap: chap('general'), targets: [] }]);
    expect(body.targets.map((target) => target.name)).toEqual([`${IQN}:shared`]);
    expect(body.discovery.map((entry) => entry.chap.user)).toEqual(['all']);
  });

  it('gets a new stamp with every change that concerns it, under the epoch it is held', () => {
    const before = map(world());
    const stamps = (document: AccessDocument) => document.volumes.map((part) => part.stamp);
    const same = restamp(before, setChap(before, OTHER, undefined, chap('x')), () => 5);
    expect(stamps(same)).toEqual(stamps(before));
    const mine = restamp(before, setChap(before, HOST, undefined, chap('x')), () => 5);
    expect(stamps(mine)).toEqual([
      { epoch: 5, revision: 1 },
      { epoch: 0, revision: 0 },
    ]);
    const state = restamp(mine, setUnitState(mine, 'id-b', '{"a":1}'), () => undefined);
    expect(stamps(state)[1]).toEqual({ epoch: 0, revision: 1 });
    expect(restamp(state, state, () => 9)).toBe(state);
  });

  it('comes back whole on new hardware: maps, target, initiators, credentials, reservations', () => {
    let document = map(world(), { target: `${IQN}:shared`, lun: 4, readOnly: true, addresses: ['10.0.0.0/8'] });
    document = setChap(document, HOST, undefined, chap('general'));
    document = setDiscoveryChap(document, undefined, chap('all'));
    document = setUnitState(document, 'id-a', '{"reservations":[]}');
    const [a] = document.volumes;
    if (a === undefined) throw new Error('no volume');
    const adopted = adoptVolume(EMPTY_DOCUMENT, volume('a'), bodyOf(document, a));
    expect(adopted.outcome).toBe('imported');
    expect(adopted.document.volumes).toEqual([a]);
    expect(adopted.document.initiators).toEqual([{ name: HOST, ...GRANT, chap: chap('general'), targets: [] }]);
    expect(adopted.document.targets.map((target) => target.name)).toEqual([`${IQN}:shared`]);
    expect(adopted.document.discovery).toHaveLength(1);
  });

  it('leaves the discovery credential of a gateway that serves others alone', () => {
    const document = setDiscoveryChap(map(world()), undefined, chap('theirs'));
    const [a] = document.volumes;
    if (a === undefined) throw new Error('no volume');
    const known = addInitiator(adoptVolume(EMPTY_DOCUMENT, volume('c'), undefined).document, HOST, GRANT);
    const here = map(known, { volume: 'c' });
    expect(adoptVolume(here, volume('a'), bodyOf(document, a)).document.discovery).toEqual([]);
  });

  it.each([
    ['a later change under the same epoch', { epoch: 5, revision: 8 }, { epoch: 5, revision: 7 }, 'kept'],
    ['the same', { epoch: 5, revision: 7 }, { epoch: 5, revision: 7 }, 'kept'],
    ['an old copy of the directory', { epoch: 5, revision: 3 }, { epoch: 5, revision: 7 }, 'imported'],
    ['what a fenced gateway still changed', { epoch: 5, revision: 9 }, { epoch: 6, revision: 8 }, 'imported'],
    ['what the taker never changed', { epoch: 5, revision: 9 }, { epoch: 5, revision: 8 }, 'kept'],
  ])('%s: %j here and %j there is %s', (_what, here, there, outcome) => {
    const document = map(world());
    const local = { ...document, volumes: document.volumes.map((part) => ({ ...part, stamp: here })) };
    const [a] = document.volumes;
    if (a === undefined) throw new Error('no volume');
    expect(adoptVolume(local, volume('a'), { ...bodyOf(document, a), stamp: there }).outcome).toBe(outcome);
  });

  it('brings the credential of discovery back also when volumes without maps came first', () => {
    const theirs = setDiscoveryChap(map(world()), undefined, chap('all'));
    const [a] = theirs.volumes;
    if (a === undefined) throw new Error('no volume');
    const fresh = adoptVolume(EMPTY_DOCUMENT, volume('scratch'), undefined).document;
    const adopted = adoptVolume(fresh, volume('a'), bodyOf(theirs, { ...a, stamp: { epoch: 9, revision: 1 } }));
    expect(adopted.document.discovery.map((entry) => entry.chap.user)).toEqual(['all']);
  });

  it('never grows beyond what can be read again', () => {
    let document = world();
    const names = Array.from({ length: 257 }, (_, index) => `id-v${index}`);
    for (const name of names) {
      document = adoptVolume(document, { volume: name, name, target: `${IQN}:${name}` }, undefined).document;
    }
    for (const name of names.slice(0, 256)) document = setChap(document, HOST, `${IQN}:${name}`, chap('x'));
    expect(refusal(() => setChap(document, HOST, `${IQN}:id-v256`, chap('x'))).kind).toBe('input');
    expect(() => setChap(document, HOST, `${IQN}:id-v255`, chap('y'))).not.toThrow();
    const one = document.volumes[0];
    if (one === undefined) throw new Error('no volume');
    const full = {
      ...document,
      volumes: Array.from({ length: 1024 }, (_, index) => ({ ...one, volume: `v${index}` })),
    };
    expect(refusal(() => adoptVolume(full, volume('new'), undefined)).kind).toBe('input');
    expect(documentSchema.safeParse(full).success).toBe(true);
  });

  it('does not hide a volume that is here already behind one that comes with the same LUN', () => {
    const theirs = map(world(), { volume: 'b', target: `${IQN}:shared`, lun: 1 });
    const mine = map(
      createTarget(
        addInitiator(adoptVolume(EMPTY_DOCUMENT, volume('a'), undefined).document, HOST, GRANT),
        `${IQN}:shared`,
        GRANT,
      ),
      { target: `${IQN}:shared`, lun: 1 },
    );
    const b = theirs.volumes[1];
    if (b === undefined) throw new Error('no volume');
    const both = adoptVolume(mine, volume('b'), bodyOf(theirs, b)).document;
    const { maps, shadowed } = effectiveMaps(both);
    expect(maps.map(({ part }) => part.name)).toEqual(['a']);
    expect(shadowed).toMatchObject([{ part: { name: 'b' }, by: 'a' }]);
  });

  it.each(['', '{', '{"format":2}', '[]'])('refuses a body it does not know (%j)', (text) => {
    expect(refusal(() => decodeBody(Buffer.from(text), 'a')).kind).toBe('damaged');
  });
});

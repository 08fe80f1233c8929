import type { Attribute } from './attributes.ts';
import {
  address,
  decodeAttributes,
  DELIMITER,
  encodeAttributes,
  number,
  readText,
  text,
  wanted,
} from './attributes.ts';
import {
  ENTITY_PROTOCOL_ISCSI,
  FLAG,
  FUNCTION,
  MAX_ALIAS_BYTES,
  MAX_ENTITY_BYTES,
  MAX_NAME_BYTES,
  NODE_TYPE_TARGET,
  TAG,
} from './constants.ts';
import { damaged } from './pdu.ts';

/** A target as the world may know it. The name is normalised. */
export interface IsnsTarget {
  readonly name: string;
  readonly alias?: string | undefined;
  /** Where it is served, of the portals of the entity; undefined: at all of them. */
  readonly portals?: readonly IsnsPortal[] | undefined;
}

/** An address and TCP port initiators can reach. */
export interface IsnsPortal {
  readonly host: string;
  readonly port: number;
}

/** A request without what the connection adds: transaction and PDUs. */
export interface Request {
  readonly functionId: number;
  readonly flags: number;
  readonly payload: Buffer;
}

export interface Response {
  readonly status: number;
  readonly attributes: readonly Attribute[];
}

const entityKey = (entity: string): Attribute => text(TAG.entityIdentifier, entity, MAX_ENTITY_BYTES);
const nameKey = (name: string): Attribute => text(TAG.iscsiName, name, MAX_NAME_BYTES);
const portalKey = (portal: IsnsPortal): Attribute[] => [
  address(TAG.portalAddress, portal.host),
  number(TAG.portalPort, portal.port), // bit 15 clear: TCP (6.3.2)
];

const groupKeys = (portals: readonly IsnsPortal[]): Attribute[] =>
  portals.flatMap(({ host, port }) => [address(TAG.groupPortalAddress, host), number(TAG.groupPortalPort, port)]);
/** The group tag of portals that a target is not reached through (RFC 4171 3.4). */
const NO_ACCESS: Attribute = { tag: TAG.groupTag, value: Buffer.alloc(0) };

/** The portals a target is served at, and the others. */
function placesOf({ portals: served }: IsnsTarget, portals: readonly IsnsPortal[]): [IsnsPortal[], IsnsPortal[]] {
  if (served === undefined) return [[...portals], []];
  const keys = new Set(served.map(portalKeyOf));
  const isThere = (portal: IsnsPortal): boolean => keys.has(portalKeyOf(portal));
  return [portals.filter(isThere), portals.filter((portal) => !isThere(portal))];
}

/** What a target is registered with, as text: it is told again when that is another. Portals that come or go are among it. */
export function standingOf(target: IsnsTarget, portals: readonly IsnsPortal[]): string {
  const places = placesOf(target, portals).map((each) => each.map(portalKeyOf).toSorted());
  return JSON.stringify([target.alias ?? '', ...places]);
}

export interface Registration {
  /** Identifies our Network Entity; unique for the server. */
  readonly entity: string;
  /** The name of a target of the entity: who speaks (RFC 4171 5.6.1). */
  readonly source: string;
  /** All our portals. */
  readonly portals: readonly IsnsPortal[];
  readonly targets: readonly IsnsTarget[];
  /** Whether the portals are registered too, or only named as those of the targets. */
  readonly withPortals: boolean;
  /** Drops what the entity had before (RFC 4171 5.6.5.1). */
  readonly replace: boolean;
  /** Undefined leaves the portal groups implicit, which means tag 1 (RFC 4171 5.6.5.1). */
  readonly groupTag: number | undefined;
}

/**
 * DevAttrReg (RFC 4171 5.6.5.1): the entity, its portals, and each target with the portal group it is reached through. A portal it is
 * not served at is told with a tag of length 0, which says just that (3.4): the server would make one of tag 1 of it otherwise. No ESI
 * port and no SCN port: the server does not call us. No registration period either: the server decides (6.2.6).
 */
export function registerRequest(registration: Registration): Request {
  const { entity, source, portals, targets, withPortals, replace, groupTag } = registration;
  const attributes = [
    nameKey(source),
    entityKey(entity),
    DELIMITER,
    entityKey(entity),
    number(TAG.entityProtocol, ENTITY_PROTOCOL_ISCSI),
  ];
  if (withPortals) for (const portal of portals) attributes.push(...portalKey(portal));
  for (const target of targets) {
    attributes.push(nameKey(target.name), number(TAG.iscsiNodeType, NODE_TYPE_TARGET));
    if (target.alias !== undefined && target.alias !== '')
      attributes.push(text(TAG.iscsiAlias, target.alias, MAX_ALIAS_BYTES));
    if (groupTag === undefined) continue;
    const [there, elsewhere] = placesOf(target, portals);
    if (there.length > 0) attributes.push(number(TAG.groupTag, groupTag), ...groupKeys(there));
    if (elsewhere.length > 0) attributes.push(NO_ACCESS, ...groupKeys(elsewhere));
  }
  return {
    functionId: FUNCTION.register,
    flags: FLAG.client | (replace ? FLAG.replace : 0),
    payload: encodeAttributes(attributes),
  };
}

/** DevAttrQry (RFC 4171 5.6.5.2) about our entity. Like every message it also refreshes the registration (6.2.6). */
export function queryRequest(entity: string, source: string): Request {
  const asked = [TAG.registrationPeriod, TAG.portalAddress, TAG.portalPort, TAG.iscsiName];
  return {
    functionId: FUNCTION.query,
    flags: FLAG.client,
    payload: encodeAttributes([nameKey(source), entityKey(entity), DELIMITER, ...asked.map(wanted)]),
  };
}

/** What a DevDereg (RFC 4171 5.6.5.4) removes. */
export type Removal =
  | { readonly kind: 'entity'; readonly entity: string }
  | { readonly kind: 'target'; readonly name: string }
  /** A portal by its key as `seenIn` returns it. */
  | { readonly kind: 'portal'; readonly key: string };

export function deregisterRequest(source: string, removal: Removal): Request {
  return {
    functionId: FUNCTION.deregister,
    flags: FLAG.client,
    payload: encodeAttributes([nameKey(source), DELIMITER, ...removed(removal)]),
  };
}

function removed(removal: Removal): Attribute[] {
  switch (removal.kind) {
    case 'entity':
      return [entityKey(removal.entity)];
    case 'target':
      return [nameKey(removal.name)];
    case 'portal': {
      const bytes = Buffer.from(removal.key, 'hex');
      return [
        { tag: TAG.portalAddress, value: bytes.subarray(0, 16) },
        { tag: TAG.portalPort, value: bytes.subarray(16) },
      ];
    }
  }
}

/** The status code, then attributes (RFC 4171 5.7). Throws `damaged`. */
export function decodeResponse(payload: Buffer): Response {
  if (payload.length < 4) throw damaged('sent a response without a status code');
  return { status: payload.readUInt32BE(0), attributes: decodeAttributes(payload, 4) };
}

/** The registration period in seconds, when the response tells it. */
export function periodIn(response: Response): number | undefined {
  const found = response.attributes.find(({ tag, value }) => tag === TAG.registrationPeriod && value.length === 4);
  return found?.value.readUInt32BE(0);
}

/** What tells portals apart: address and port in hexadecimal digits, so that two spellings of an address are one. */
export function portalKeyOf(portal: IsnsPortal): string {
  return Buffer.concat(portalKey(portal).map(({ value }) => value)).toString('hex');
}

/** What the answer to a query shows of our entity. */
export interface Seen {
  readonly targets: ReadonlySet<string>;
  readonly portals: ReadonlySet<string>;
}

export function seenIn(response: Response): Seen {
  const targets = new Set<string>();
  const portals = new Set<string>();
  let host: Buffer | undefined;
  // The query's key comes first, up to the delimiter (5.7), and is none of them; a portal is an address followed by its port (5.6.4).
  const delimiter = response.attributes.findIndex(({ tag }) => tag === TAG.delimiter);
  for (const { tag, value } of response.attributes.slice(delimiter + 1)) {
    if (tag === TAG.iscsiName) targets.add(readText(value));
    if (tag === TAG.portalPort && value.length === 4 && host !== undefined)
      portals.add(Buffer.concat([host, value]).toString('hex'));
    host = tag === TAG.portalAddress && value.length === 16 ? value : undefined;
  }
  return { targets, portals };
}

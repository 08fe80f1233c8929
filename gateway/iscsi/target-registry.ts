import type { BlockDevice } from '../base/block-device.ts';
import type { UnitStateStore } from '../scsi/unit-state.ts';

/** Who asks: the name an initiator gives itself, and where it is. */
export interface Initiator {
  /** Normalised iSCSI name (normalizeName). */
  readonly name: string;
  /** Normalised peer address (normalizeAddress). */
  readonly address: string;
}

/** What one initiator finds at one LUN of a target. */
export interface MappedLun {
  readonly device: BlockDevice;
  /** Commands that change the medium are refused: DATA PROTECT / WRITE PROTECTED. */
  readonly readOnly: boolean;
  /** Where the logical unit keeps what must survive a power loss; undefined: nothing does. */
  readonly state: UnitStateStore | undefined;
}

/** A volume that is offered, and who is let to it. */
export interface ReachedLun {
  readonly lun: MappedLun;
  /** Whether an initiator is, through a target; undefined: through any. */
  readonly reaches: (initiator: string, target: string | undefined) => boolean;
}

export interface ChapCredential {
  /** CHAP_N, compared byte for byte. */
  readonly user: string;
  readonly secret: Buffer;
}

/** What an initiator must prove, to one target or to discovery (RFC 7143 12.1). */
export interface ChapRequirement {
  readonly initiator: ChapCredential;
  /** Mutual authentication: what the target proves when the initiator asks for it. */
  readonly target: ChapCredential | undefined;
}

/** An address initiators may log in at. */
export interface PortalAddress {
  readonly host: string;
  readonly port: number;
}

/** A portal that is open, with the port it really has. */
export interface OpenPortal extends PortalAddress {
  /** What initiators are told instead: the addresses it has outside, behind NAT for example. */
  readonly advertise: readonly PortalAddress[] | undefined;
}

export interface IscsiTarget {
  /** Normalised iSCSI name. */
  readonly name: string;
  /**
   * The portals it is served at, where that is not this server: SendTargets names these, and a login that has succeeded is sent there
   * (RFC 7143 11.13.5, "target moved temporarily"). Undefined: at every portal of this server.
   */
  readonly portals?: readonly OpenPortal[] | undefined;
  /**
   * What this initiator sees at this moment. Asked at every command, so it must be cheap: the same map until access
   * changes, and the server is told of that by `accessChanged`.
   */
  luns(initiator: Initiator): ReadonlyMap<number, MappedLun>;
}

/**
 * `not-found` is what a target that does not exist answers, and one this initiator may not know of. `forbidden` is for a
 * target it can discover, but may not use in this way; the reason is for the audit log, the peer is not told.
 */
export type Authorization =
  | { readonly kind: 'not-found' }
  | { readonly kind: 'forbidden'; readonly reason: string }
  /** Its volumes are being opened; the initiator shall try again, and is told so when it has proved what it must. */
  | { readonly kind: 'unavailable'; readonly chap: ChapRequirement | undefined }
  | { readonly kind: 'allowed'; readonly target: IscsiTarget; readonly chap: ChapRequirement | undefined };

/**
 * What happened, for the audit log. `target` is undefined for discovery, and before a login has named one; `initiator`
 * has no name while it has given none that is valid.
 */
interface AccessEventCore {
  readonly initiator: { readonly name: string | undefined; readonly address: string };
  readonly target: string | undefined;
  /** Normalised local address of the connection. */
  readonly portal: string;
}

/** How an initiator has proved who it is. `user` is its CHAP_N. */
export type Proof = { readonly kind: 'none' } | { readonly kind: 'chap' | 'mutual-chap'; readonly user: string };

export type AccessEvent = AccessEventCore &
  (
    | { readonly kind: 'login'; readonly tsih: number; readonly discovery: boolean; readonly proof: Proof }
    | {
        readonly kind: 'login-refused';
        /** Status class and detail of the Login Response, four hexadecimal digits. */
        readonly status: string;
        readonly reason: string;
        /** So many like this one were refused since the last that was told, this one included: a flood is told in sums. */
        readonly count: number;
      }
    | { readonly kind: 'logout'; readonly tsih: number; readonly discovery: boolean }
    | {
        /** Not by a logout: lost, replaced, killed, access withdrawn, gateway stopping. */
        readonly kind: 'session-ended';
        readonly tsih: number;
        readonly discovery: boolean;
        readonly reason: string;
      }
  );

/** The targets there are at this moment and who may use them. Answers come from memory, in the same turn. */
export interface TargetRegistry {
  /** Asked before authentication, when the login is complete, and again for every session at `accessChanged`. */
  authorize(targetName: string, initiator: Initiator, portalAddress: string): Authorization;
  /** What this initiator may see through this portal, for SendTargets. */
  discover(initiator: Initiator, portalAddress: string): Iterable<IscsiTarget>;
  /**
   * Whether anybody has to prove anything here. Then all that do not offer to are refused alike, whatever they name: pairs
   * of initiator and target could be found out by trying otherwise. Undefined: no.
   */
  demandsProof?(): boolean;
  /** What must be proved before a discovery session; undefined: nothing. */
  discoveryChap(initiator: Initiator): ChapRequirement | undefined;
  /** Told in order; must not throw. */
  onEvent(event: AccessEvent): void;
}

/** The address of a socket as it is compared and advertised: IPv4 in IPv6 notation is IPv4, zones are cut off. */
export function normalizeAddress(address: string): string {
  const withoutZone = address.replace(/%.*$/, '').toLowerCase();
  return withoutZone.startsWith('::ffff:') && withoutZone.includes('.') ? withoutZone.slice(7) : withoutZone;
}

/** Loopback portals are open to any initiator as long as no access is configured; others are not. */
export function isLoopbackAddress(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** Not an address a peer could connect to. */
export function isWildcardAddress(address: string): boolean {
  return address === '0.0.0.0' || address === '::' || address === '';
}

import type { AccessDocument } from '../access/document.ts';
import type { ChangeEntry } from '../access/audit-log.ts';
import type { Series } from '../access/audit-files.ts';
import type { AdoptedVolume } from '../access/part.ts';
import type { ErrorKind } from '../base/errors.ts';
import type { AccessEvent, OpenPortal } from '../iscsi/target-registry.ts';
import type { ScrubSide } from '../volume/scrub-pass.ts';
import type { ScrubReport } from '../volume/scrubber.ts';
import type { VolumeStatus } from '../volume/volume-status.ts';

/** Targets of calls to an I/O thread: the thread itself, its part of access control; volumes are numbered from FIRST_VOLUME on. */
export const THREAD = 0;
export const ACCESS = 1;
export const FIRST_VOLUME = 16;

/** Keys of CHAP secrets, as they cross threads of one process. */
export type Keys = readonly Uint8Array[];

/** What the main thread tells an I/O thread, in this order and before any call it makes afterwards. */
export interface ToThread {
  /** Another access document is in force. */
  document: { readonly document: AccessDocument; readonly keys: Keys };
  /** In the document only what this logical unit keeps has changed. */
  'unit-state': { readonly volume: string; readonly state: string };
  keys: { readonly keys: Keys };
  /** A volume (by identifier) is being opened, or is so no more. */
  expect: { readonly volume: string; readonly on: boolean };
  /** A volume is offered by another thread. */
  elsewhere: { readonly volume: AdoptedVolume; readonly thread: number };
  /** Where another thread serves its volumes. */
  'served-at': { readonly thread: number; readonly portals: readonly OpenPortal[] };
}

/** What an I/O thread tells the main one, besides lines of the log (see port-log). */
export interface FromThread {
  /** It is up, or why it cannot be. */
  started: { readonly failure: { readonly kind: ErrorKind; readonly message: string } | undefined };
  /** Of the volume that is the event's target. */
  state: { readonly state: VolumeStatus['state'] };
  /** Of the volume that is the event's target; `watch`: which scrub. */
  scrub: { readonly watch: number; readonly side: ScrubSide; readonly report: ScrubReport };
  /** Bounded, as lines of the log are (see audit-by-messages); the others come seldom. */
  session: { readonly event: AccessEvent; readonly detail: Readonly<Record<string, unknown>> | undefined };
  note: { readonly entry: ChangeEntry; readonly series: Series | undefined };
}

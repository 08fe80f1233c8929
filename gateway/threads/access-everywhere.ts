import type { AccessControl, AccessInForce } from '../access/access-control.ts';
import type { AccessDocument } from '../access/document.ts';
import type { AdoptedVolume } from '../access/part.ts';
import { isSameAccess } from '../access/resolve.ts';
import { isKind } from '../base/errors.ts';
import type { SecretBox } from '../access/secret-box.ts';
import type { OpenPortal } from '../iscsi/target-registry.ts';
import type { VolumePlace } from '../volume-control.ts';
import type { Keys } from './messages.ts';

/** Access control in another thread, which decides by its own copy of the document. What is told arrives before what is asked afterwards. */
export interface AccessPeer {
  readonly number: number;
  document(document: AccessDocument, keys: Keys): void;
  /** What changed in the document is only what this logical unit keeps ('': nothing). */
  unitState(volume: string, state: string): void;
  keys(keys: Keys): void;
  /** The volume is being opened somewhere, or is so no more. */
  expect(volume: string, on: boolean): void;
  /** The volume is offered by another thread. */
  elsewhere(volume: AdoptedVolume, thread: number): void;
  servedAt(thread: number, portals: readonly OpenPortal[]): void;
  /** The open volume of this handle is offered to whom its access control lets in; resolves when that is so. */
  offer(handle: number, volume: AdoptedVolume): Promise<void>;
  /** See AccessControl.withdraw. */
  withdraw(volume: string): Promise<void>;
  enforced(): Promise<void>;
  sessions(volume: string): Promise<number>;
}

/** Of the main thread. */
const MAIN = 0;

/**
 * Access control as all threads together enforce it: each of them has the document, and knows which volumes there are and whose they are, so that
 * a login is let in where its target is served and redirected everywhere else. With one thread it is that one's.
 */
export class AccessEverywhere {
  readonly #here: AccessControl;
  readonly #others: readonly AccessPeer[];

  constructor(here: AccessControl, others: readonly AccessPeer[] = []) {
    this.#here = here;
    this.#others = others;
  }

  /** From now on the others have the document as it is changed. */
  follow(book: AccessInForce, secrets: Pick<SecretBox, 'keys'>): void {
    if (this.#others.length === 0) return;
    let before = book.document;
    const tell = (document: AccessDocument): void => {
      for (const other of this.#others) other.document(document, secrets.keys);
    };
    tell(before);
    book.onChange((document) => {
      if (isSameAccess(before, document)) this.#tellUnitStates(before, document);
      else tell(document);
      before = document;
    });
  }

  /** The volume is being opened, until the answer is called. */
  expect(volume: string): () => void {
    const opened = this.#here.expect(volume);
    for (const other of this.#others) other.expect(volume, true);
    return () => {
      opened();
      for (const other of this.#others) other.expect(volume, false);
    };
  }

  /** Resolves when initiators may come; nobody is sent to a thread that does not know of the volume yet. */
  async offer(volume: AdoptedVolume, place: VolumePlace): Promise<void> {
    const thread = 'device' in place ? MAIN : place.thread;
    if ('device' in place) this.#here.offer(volume, place.device);
    else {
      await this.#others.find(({ number }) => number === thread)?.offer(place.handle, volume);
      this.#here.offerElsewhere(volume, thread);
    }
    for (const other of this.#others) if (other.number !== thread) other.elsewhere(volume, thread);
  }

  /** See AccessControl.withdraw: of every thread. */
  async withdraw(volume: string): Promise<void> {
    await Promise.all([this.#here.withdraw(volume), ...this.#others.map((other) => other.withdraw(volume))]);
  }

  /** See AccessControl.enforced: of every thread. */
  async enforced(): Promise<void> {
    await Promise.all([this.#here.enforced(), ...this.#others.map((other) => other.enforced())]);
  }

  /** Sessions that see the volume; those of a thread that does not answer are not counted. */
  async sessions(volume: string): Promise<number> {
    const counts = await Promise.all(
      this.#others.map(async (other) => {
        try {
          return await other.sessions(volume);
        } catch (error) {
          if (isKind(error, 'retry')) return 0;
          throw error;
        }
      }),
    );
    return counts.reduce((sum, count) => sum + count, this.#here.sessions(volume));
  }

  keysChanged(secrets: Pick<SecretBox, 'keys'>): void {
    this.#here.keysChanged();
    for (const other of this.#others) other.keys(secrets.keys);
  }

  /** The portals of that thread are open: everybody sends its initiators there. */
  servedAt(thread: number, portals: readonly OpenPortal[]): void {
    if (thread !== MAIN) this.#here.servedAt(thread, portals);
    for (const other of this.#others) if (other.number !== thread) other.servedAt(thread, portals);
  }

  #tellUnitStates(before: AccessDocument, after: AccessDocument): void {
    after.volumes.forEach(({ volume, unitState }, index) => {
      if (before.volumes[index]?.unitState === unitState) return;
      for (const other of this.#others) other.unitState(volume, unitState ?? '');
    });
  }
}

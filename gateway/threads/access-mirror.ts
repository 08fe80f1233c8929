import type { AccessInForce } from '../access/access-control.ts';
import type { AccessDocument } from '../access/document.ts';
import { setUnitState } from '../access/operations.ts';

/** An I/O thread's copy of the access document; the main thread has the one that counts, and tells of every change. */
export class AccessMirror implements AccessInForce {
  readonly #listeners: ((document: AccessDocument) => void)[] = [];
  readonly #save: (volume: string, state: string) => Promise<void>;
  #document: AccessDocument;

  /** `save`: has the main thread keep it, and resolves when the copy has it too. */
  constructor(document: AccessDocument, save: (volume: string, state: string) => Promise<void>) {
    this.#document = document;
    this.#save = save;
  }

  get document(): AccessDocument {
    return this.#document;
  }

  onChange(listener: (document: AccessDocument) => void): void {
    this.#listeners.push(listener);
  }

  saveUnitState(volume: string, state: string): Promise<void> {
    return this.#save(volume, state);
  }

  /** The main thread has another document. */
  follow(document: AccessDocument): void {
    this.#document = document;
    for (const listener of this.#listeners) listener(document);
  }

  /** The main thread has kept this of a logical unit ('': nothing), and has changed no more than that. */
  followUnitState(volume: string, state: string): void {
    this.follow(setUnitState(this.#document, volume, state));
  }
}

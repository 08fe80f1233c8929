import { FarshoreError } from '../base/errors.ts';
import type { UnitStateStore } from './unit-state.ts';

/** Who keeps something; each has one section of the document. */
export type SectionName = 'reservations' | 'sanitize';

const FORMAT = 1;

/**
 * The document a logical unit keeps over power loss, shared by those who write to it: `{"format": 1, <section>: …}`.
 * Saves follow each other, and each carries the whole document.
 */
export class UnitDocument {
  readonly #store: UnitStateStore | undefined;
  readonly #sections = new Map<string, unknown>();
  /** Settles with the last save there is. */
  #lastSave: Promise<void> = Promise.resolve();
  /** A save has failed: which document the store has is not known. */
  #uncertain = false;
  #damaged = false;
  /** Sections that are nonsense. */
  readonly #nonsense = new Set<SectionName>();

  constructor(store: UnitStateStore | undefined) {
    this.#store = store;
    const text = store?.load();
    if (text === undefined) return;
    const sections = parse(text);
    if (sections === undefined) this.#damaged = true;
    else for (const [name, value] of sections) this.#sections.set(name, value);
  }

  /** Whether anything can be kept at all. */
  get canKeep(): boolean {
    return this.#store !== undefined;
  }

  /** Resolves when a successor on other hardware would find what was saved last; rejects when that can't be any more. */
  async mirrored(): Promise<void> {
    await this.#store?.mirrored?.();
  }

  /** What was kept cannot be understood: the unit must not be used, for nobody knows who may write to it. */
  get isDamaged(): boolean {
    return this.#damaged;
  }

  /** The reader of a section found it to be nonsense. */
  markDamaged(section: SectionName): void {
    this.#nonsense.add(section);
    this.#damaged = true;
  }

  /**
   * Removes what cannot be understood, for an administrator who answers for it. Durable when it resolves, and the unit can
   * be used again; rejects like `save`, and nothing has changed then.
   */
  discardDamaged(): Promise<void> {
    const saved = this.#lastSave.then(() => this.#discardDamaged());
    this.#lastSave = saved.catch(() => undefined); // whoever asked for it is told
    return saved;
  }

  async #discardDamaged(): Promise<void> {
    if (this.#store === undefined) throw new FarshoreError('bug', 'a unit without a store has nothing to discard');
    const sections = new Map([...this.#sections].filter(([name]) => !this.#isNonsense(name)));
    try {
      await this.#store.save(encode(sections));
    } catch (error) {
      this.#uncertain = true;
      throw error;
    }
    this.#uncertain = false;
    for (const name of this.#nonsense) this.#sections.delete(name);
    this.#nonsense.clear();
    this.#damaged = false;
  }

  #isNonsense(section: string): boolean {
    return [...this.#nonsense].some((name) => name === section);
  }

  /** Whether the store may have something else than what was saved last with success. */
  get isUncertain(): boolean {
    return this.#uncertain;
  }

  /** A section as it was loaded or last saved: a JSON value, to be checked by its reader; undefined when there is none. */
  section(name: SectionName): unknown {
    return this.#sections.get(name);
  }

  /**
   * Durable when it resolves; `undefined` removes the section. A save that fails leaves the section as it was and rejects
   * with the store's FarshoreError, after trying to put the former document back: the store may have the new one.
   */
  save(name: SectionName, value: unknown): Promise<void> {
    const saved = this.#lastSave.then(() => this.#save(name, value));
    this.#lastSave = saved.catch(() => undefined); // whoever asked for it is told
    return saved;
  }

  async #save(name: SectionName, value: unknown): Promise<void> {
    if (this.#store === undefined) throw new FarshoreError('bug', 'a unit without a store was asked to keep something');
    const sections = new Map(this.#sections);
    if (value === undefined) sections.delete(name);
    else sections.set(name, value);
    try {
      await this.#store.save(encode(sections));
    } catch (error) {
      this.#uncertain = true;
      await this.#putBack();
      throw error;
    }
    this.#uncertain = false;
    if (value === undefined) this.#sections.delete(name);
    else this.#sections.set(name, value);
  }

  async #putBack(): Promise<void> {
    try {
      await this.#store?.save(encode(this.#sections));
      this.#uncertain = false;
    } catch (error) {
      // The next save carries everything; until then `isUncertain` says that one is due.
      if (!(error instanceof FarshoreError)) throw error;
    }
  }
}

/** One section of a document as `UnitStateStore` has it; undefined: there is none, or the document cannot be understood. */
export function sectionOf(document: string | undefined, name: SectionName): unknown {
  if (document === undefined) return undefined;
  return parse(document)?.find(([each]) => each === name)?.[1];
}

/** The document without one section; one that cannot be understood stays as it is. */
export function withoutSection(document: string, name: SectionName): string {
  const sections = parse(document);
  return sections === undefined ? document : encode(new Map(sections.filter(([each]) => each !== name)));
}

function encode(sections: ReadonlyMap<string, unknown>): string {
  return JSON.stringify({ format: FORMAT, ...Object.fromEntries(sections) });
}

/** Sections this version does not know are kept, in a document of a format it knows. */
function parse(text: string): [string, unknown][] | undefined {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof document !== 'object' || document === null || !('format' in document)) return undefined;
  if (document.format !== FORMAT) return undefined;
  return Object.entries(document).filter(([name]) => name !== 'format');
}

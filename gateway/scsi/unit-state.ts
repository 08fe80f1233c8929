/**
 * What a logical unit must keep over power loss: reservations under APTPL, a SANITIZE under way. One small JSON document
 * a unit; `UnitDocument` shares it out.
 */
export interface UnitStateStore {
  /** The last document saved, on this hardware or on what it was taken over from; undefined when there is none. */
  load(): string | undefined;
  /** Durable when it resolves. Rejects with a FarshoreError; which document `load` gives is unknown then. */
  save(document: string): Promise<void>;
  /** Whether what was saved last is where a successor on other hardware would find it; a store that is asked nothing of it has no other place. */
  isMirrored?(): boolean;
}

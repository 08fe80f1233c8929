/**
 * What a logical unit must keep over power loss: reservations under APTPL, a SANITIZE under way. One small JSON document
 * a unit; `UnitDocument` shares it out.
 */
export interface UnitStateStore {
  /** The last document saved, on this hardware or on what it was taken over from; undefined when there is none. */
  load(): string | undefined;
  /** Durable when it resolves. Rejects with a FarshoreError; which document `load` gives is unknown then. */
  save(document: string): Promise<void>;
  /**
   * Resolves when what was saved last is where a successor on other hardware would find it, which takes as long as the cloud is away.
   * Rejects with a FarshoreError when that can't be any more as long as the unit is served as it is: `stopped`, `fenced`, `damaged`. A store that
   * is asked nothing of it has no other place.
   */
  mirrored?(): Promise<void>;
}

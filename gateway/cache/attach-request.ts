import type { WriteSeq } from '../base/units.ts';
import type { DirtySink } from './build-index.ts';

/** A volume that was recovered, as it is given to CacheLog.attach. */
export interface AttachRequest {
  readonly number: number;
  /** The first sequence this number ever had. */
  readonly firstSeq: WriteSeq;
  /** Where recovery found the end; for a new number, firstSeq − 1. */
  readonly lastSeq: WriteSeq;
  readonly committedThrough: WriteSeq;
  readonly sink: DirtySink;
  readonly onPressure: () => void;
  readonly onStopped: (error: Error) => void;
}

import type { ByteCount, VersionNumber } from '../base/units.ts';
import type { VersionChanges } from '../maintenance/payload.ts';
import type { FoldThresholds } from './engine-settings.ts';

interface Waiting {
  readonly n: VersionNumber;
  readonly segments: number;
  readonly inlineBytes: ByteCount;
}

/** What of the log waits for a fold. */
export class FoldBacklog {
  #waiting: Waiting[] = [];
  #segments = 0;
  #inlineBytes: ByteCount = 0;

  add(n: VersionNumber, version: VersionChanges): void {
    const segments = version.kind === 'segment' || version.kind === 'manifest' ? 1 : 0;
    const inlineBytes = version.kind === 'inline' ? version.image.length : 0;
    this.#waiting.push({ n, segments, inlineBytes });
    this.#segments += segments;
    this.#inlineBytes += inlineBytes;
  }

  /** Versions through n are in a checkpoint. */
  folded(n: VersionNumber): void {
    this.#waiting = this.#waiting.filter((version) => version.n > n);
    this.#segments = this.#waiting.reduce((sum, { segments }) => sum + segments, 0);
    this.#inlineBytes = this.#waiting.reduce((sum, { inlineBytes }) => sum + inlineBytes, 0);
  }

  /** Whether `times` as much as the thresholds is waiting; `ranges` is counted elsewhere. */
  reaches(thresholds: FoldThresholds, ranges: number, times = 1): boolean {
    return (
      this.#segments >= thresholds.segments * times ||
      this.#waiting.length >= thresholds.versions * times ||
      this.#inlineBytes >= thresholds.inlineBytes * times ||
      ranges >= thresholds.ranges * times
    );
  }
}

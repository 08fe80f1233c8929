const SUB_BUCKETS = 64;
const OCTAVES = 32;

/** Latencies in log-linear buckets: 64 per factor of two from 1 µs on, so a quantile is right to 1.6 %. */
export class LatencyHistogram {
  private readonly counts = new Uint32Array(SUB_BUCKETS * OCTAVES);
  private total = 0;
  private highestMs = 0;

  record(latencyMs: number): void {
    const scaled = Math.max(1, latencyMs * 1000);
    const octave = Math.min(OCTAVES - 1, 31 - Math.clz32(scaled));
    const base = 2 ** octave;
    const index = octave * SUB_BUCKETS + Math.min(SUB_BUCKETS - 1, Math.floor(((scaled - base) / base) * SUB_BUCKETS));
    this.counts[index] = (this.counts[index] ?? 0) + 1;
    this.total += 1;
    if (latencyMs > this.highestMs) this.highestMs = latencyMs;
  }

  /** Upper edge, in ms, of the bucket that holds the `share` quantile (0 to 1). */
  quantileMs(share: number): number {
    const wanted = Math.ceil(this.total * share);
    let seen = 0;
    for (const [index, count] of this.counts.entries()) {
      seen += count;
      if (count > 0 && seen >= wanted) {
        const octave = Math.floor(index / SUB_BUCKETS);
        const edge = 2 ** octave * (1 + ((index % SUB_BUCKETS) + 1) / SUB_BUCKETS);
        return Math.min(edge / 1000, this.highestMs);
      }
    }
    return 0;
  }

  maxMs(): number {
    return this.highestMs;
  }

  count(): number {
    return this.total;
  }
}

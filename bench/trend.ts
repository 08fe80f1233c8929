/** What part of a run is left out at its beginning: memory is taken into use for the first time there. */
const WARM_UP_SHARE = 0.25;
/** The rest is compared third by third. */
const PARTS = 3;

/** One figure over the time of a run, in the order it was taken. */
export interface Series {
  readonly name: string;
  readonly values: readonly number[];
  /** How much higher it may be at the end than at the beginning: what is below is noise. */
  readonly bound: number;
}

export interface Trend {
  readonly name: string;
  /** Medians of the first and the last third of what follows the warm-up. */
  readonly before: number;
  readonly after: number;
  readonly growth: number;
  readonly bound: number;
  readonly isFlat: boolean;
}

/**
 * Whether a figure stays where it is: the first quarter of the values is left out, and of the rest the median of the last third may be at most `bound` above that of the
 * first. Medians, since garbage collection and a busy machine make peaks that say nothing. Throws RangeError for fewer than 12 values: a third of
 * what is left must be more than one or two of them.
 */
export function trendOf({ name, values, bound }: Series): Trend {
  if (values.length < MIN_VALUES) throw new RangeError(`${name}: a trend of ${values.length} values means nothing`);
  const settled = values.slice(Math.ceil(values.length * WARM_UP_SHARE));
  const third = Math.floor(settled.length / PARTS);
  const before = median(settled.slice(0, third));
  const after = median(settled.slice(-third));
  return { name, before, after, growth: after - before, bound, isFlat: after - before <= bound };
}

const MIN_VALUES = 12;

/** The middle one in order, or the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = Number.NaN, high = low] = sorted.slice(Math.ceil(middle) - 1, Math.floor(middle) + 1);
  return (low + high) / 2;
}

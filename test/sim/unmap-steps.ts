import { SECTORS_PER_BLOCK } from './areas.ts';
import type { Op, SectorSpan } from './history.ts';

/** Whether the span covers all of the block. */
export const isWholeBlock = (block: number, { lba, sectors }: SectorSpan): boolean =>
  block * SECTORS_PER_BLOCK >= lba && (block + 1) * SECTORS_PER_BLOCK <= lba + sectors;

/** An unmap as the volume takes it: all whole blocks in one step, every part of a block in one of its own. */
export function unmapSteps(ranges: readonly SectorSpan[]): Pick<Op, 'kind' | 'spans'>[] {
  const whole: SectorSpan[] = [];
  const parts: SectorSpan[] = [];
  for (const { lba, sectors } of ranges) {
    const end = lba + sectors;
    const firstWhole = Math.ceil(lba / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK;
    const endWhole = Math.floor(end / SECTORS_PER_BLOCK) * SECTORS_PER_BLOCK;
    const head = Math.min(end, firstWhole);
    const tail = Math.max(head, endWhole);
    if (head > lba) parts.push({ lba, sectors: head - lba });
    if (tail > head) whole.push({ lba: head, sectors: tail - head });
    if (end > tail) parts.push({ lba: tail, sectors: end - tail });
  }
  const steps = parts.map((span) => ({ kind: 'unmap' as const, spans: [span] }));
  return whole.length === 0 ? steps : [...steps, { kind: 'unmap' as const, spans: whole }];
}

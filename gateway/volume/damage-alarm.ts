import type { BlockState } from './block-state.ts';

/** What to tell when blocks were lost that no version had; undefined when there are none. */
export function damageAlarm(state: BlockState): string | undefined {
  const blocks = state.damagedBlocks;
  if (blocks === 0) return undefined;
  const [first] = state.someDamaged();
  return `${blocks} blocks (block ${first ?? 0}${blocks > 1 ? ' and others' : ''}) were damaged in the cache log before any version had them, and can't be read; everything else is served and replicated. Writing them again mends them; otherwise restore what lies there from a backup or an older version, and check the disk of the cache`;
}

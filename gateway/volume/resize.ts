import { FarshoreError } from '../base/errors.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type ByteCount } from '../base/units.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';
import type { Sealer } from './sealer.ts';
import type { StoredHalf } from './stored/stored-half.ts';

/** Blocks beyond the new end that are counted for the refusal; it says "at least" from there on. */
const MAX_COUNTED: BlockCount = 65_536;
/** Most that the remote tells at once. */
const COUNTED_AT_ONCE: BlockCount = 256;

export interface ResizeParts {
  readonly name: string;
  readonly state: BlockState;
  readonly remote: RemoteVolume;
  readonly sealer: Sealer;
  /** Of a stored volume: see StoredHalf. */
  readonly image: Pick<StoredHalf, 'prepareSize' | 'resized'> | undefined;
}

/**
 * Makes the volume larger or smaller by one version of kind `resize`; resolves when that is committed. Rejects with `input` when data lies beyond
 * the new end (nothing was changed), and as commits do.
 *
 * Whatever becomes of it, nothing is ever written where the log may say that the volume ends before: while the outcome is not known the smaller of the
 * two sizes holds, here and after a restart, which goes by the log alone. So a larger volume is offered only when its version is committed, which puts every
 * write beyond the old end behind it; and of a smaller one the end is closed first, then looked at, then given up. The version itself unmaps what it
 * cuts off: old bytes can't come back when the volume grows again. An image is made larger before, and smaller behind: it has room for whatever a
 * restart may find.
 */
export async function resizeVolume(parts: ResizeParts, bytes: ByteCount): Promise<void> {
  const { state, sealer, image } = parts;
  const before = state.volumeBlocks;
  const after = bytes / BLOCK_SIZE;
  // Asked once while everything goes on as ever: what is refused here disturbs nobody.
  const refusal = sealer.refusalToResize();
  if (refusal !== undefined) throw refusal;
  if (after >= before) {
    await image?.prepareSize(before * BLOCK_SIZE, bytes);
    await sealer.resize(bytes, []);
    state.volumeBlocks = after;
    await image?.resized(bytes);
    return;
  }
  await requireNothingBeyond(parts, bytes);
  state.volumeBlocks = after;
  try {
    // From here on nothing new is staged beyond the end; what was before is seen by the second look.
    await requireNothingBeyond(parts, bytes);
    await image?.prepareSize(before * BLOCK_SIZE, bytes);
    // The log may have overflown, or replication have stopped, since it was asked: then the version is not handed over below.
    const late = sealer.refusalToResize();
    if (late !== undefined) throw late;
  } catch (error) {
    state.volumeBlocks = before;
    throw error;
  }
  await sealer.resize(bytes, [{ block: after, count: before - after }]);
  state.forgetFrom(after);
  await image?.resized(bytes);
}

async function requireNothingBeyond({ name, state, remote, sealer }: ResizeParts, bytes: ByteCount): Promise<void> {
  // What is unmapped here, or written, is so in the remote afterwards.
  await sealer.flush(state.log.assignedThrough);
  const count = await mappedFrom(remote, bytes / BLOCK_SIZE);
  if (count === 0) return;
  const blocks = `${count < MAX_COUNTED ? '' : 'at least '}${count} block${count === 1 ? '' : 's'} (${count * BLOCK_SIZE} bytes)`;
  throw new FarshoreError(
    'input',
    `volume ${name} has data in ${blocks} beyond byte ${bytes}, so it was not made smaller; shrink what is on it and unmap the rest (blkdiscard, fstrim) first`,
  );
}

async function mappedFrom(remote: RemoteVolume, first: BlockNumber): Promise<BlockCount> {
  let count = 0;
  for (let at = first; count < MAX_COUNTED;) {
    const found = await remote.nextMapped(at, COUNTED_AT_ONCE);
    const last = found?.blocks.at(-1);
    if (found === undefined || last === undefined) return count;
    count += found.blocks.length;
    at = last + 1;
  }
  return count;
}

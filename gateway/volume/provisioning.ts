import type { Provisioning } from '../base/block-device.ts';
import { BLOCK_SIZE, type BlockCount, type BlockNumber, type Lba, type SectorCount } from '../base/units.ts';
import type { RemoteVolume } from '../replication/remote-volume.ts';
import type { BlockState } from './block-state.ts';

/** Blocks looked at per answer: the caller asks on. */
const MAX_LOOK: BlockCount = 16_384;

/** Whether the sector at `lba` is mapped, and how many following ones share its state. Rejects as the remote does. */
export async function provisioningOf(
  state: BlockState,
  remote: Pick<RemoteVolume, 'mapped'>,
  sectorSize: number,
  lba: Lba,
  sectors: SectorCount,
): Promise<Provisioning> {
  const first = Math.floor((lba * sectorSize) / BLOCK_SIZE);
  const end = Math.min(Math.ceil(((lba + sectors) * sectorSize) / BLOCK_SIZE), first + MAX_LOOK);
  const { mapped, count } = await stretch(state, remote, first, end - first);
  const boundary = ((first + count) * BLOCK_SIZE) / sectorSize;
  return { mapped, sectors: Math.min(sectors, boundary - lba) };
}

async function stretch(
  state: BlockState,
  remote: Pick<RemoteVolume, 'mapped'>,
  first: BlockNumber,
  most: BlockCount,
): Promise<{ mapped: boolean; count: BlockCount }> {
  const here = localState(state, first);
  if (here === 'remote') {
    let run = 1;
    while (run < most && localState(state, first + run) === 'remote') run++;
    return remote.mapped(first, run);
  }
  let run = 1;
  while (run < most && localState(state, first + run) === here) run++;
  return { mapped: here === 'mapped', count: run };
}

function localState(state: BlockState, block: BlockNumber): 'mapped' | 'unmapped' | 'remote' {
  if (state.isRemote(block)) return state.image?.isMarked(block) === true ? 'mapped' : 'remote';
  const isHere = state.stagedFor(block) !== undefined || state.isDamaged(block) || state.log.index.has(block);
  return isHere ? 'mapped' : 'unmapped';
}

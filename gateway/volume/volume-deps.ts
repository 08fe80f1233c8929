import type { BlockCount } from '../base/units.ts';
import type { OpenDeps } from './open-volume.ts';
import type { ScrubSettings } from './scrubber.ts';
import type { VolumeStatus } from './volume-status.ts';

interface VolumeSettings {
  /** Most data, by age, that the loss of the site may cost: half of it for gathering, half for the upload. */
  readonly rpoMs: number;
  /** Fill the cache from the remote in the background after an open. */
  readonly hydrate: boolean;
  /** See DEFAULT_REMOTE_LOSS_MS. */
  readonly remoteLossMs?: number | undefined;
  /** See SealerSettings. */
  readonly heldBlocks?: BlockCount | undefined;
  /** Without it nothing is scrubbed unless somebody asks. */
  readonly scrub?: ScrubSettings | undefined;
}

export interface VolumeDeps extends OpenDeps {
  readonly settings: VolumeSettings;
  readonly onStateChange?: (state: VolumeStatus['state'], reason: string | undefined) => void;
}

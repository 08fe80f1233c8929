import { gate } from './iscsi-world.ts';
import type { RamDevice } from './ram-device.ts';

/** Holds every write in the device until `release`; `entered` resolves when the first is in. */
export function holdWrites(device: RamDevice): { readonly entered: Promise<void>; release: () => void } {
  const inside = gate();
  const held = gate();
  device.intercept = (operation) => {
    if (operation !== 'write') return undefined;
    inside.open();
    return held.opened;
  };
  return { entered: inside.opened, release: held.open };
}

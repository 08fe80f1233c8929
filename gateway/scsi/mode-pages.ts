import { invariant } from '../base/errors.ts';

const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

/** A page from its first bytes; the rest is zeros. PS is 0: nothing can be saved. */
function page(code: number, bodyBytes: number, ...body: readonly number[]): Buffer {
  invariant(body.length <= bodyBytes, `mode page ${code} is too long`);
  const bytes = Buffer.alloc(2 + bodyBytes);
  bytes.set([code, bodyBytes, ...body]);
  return bytes;
}

/** The mode pages, in ascending order of their codes (SPC-4 7.5, SBC-3 6.4). */
const PAGES: ReadonlyMap<number, Buffer> = new Map([
  // Read-write error recovery (SBC-3 6.4.6): AWRE, ARRE.
  [0x01, page(0x01, 0x0a, 0xc0)],
  // Disconnect-reconnect (SPC-4 7.5.10): no limits.
  [0x02, page(0x02, 0x0e)],
  // Caching (SBC-3 6.4.5): WCE, so that hosts flush.
  [0x08, page(0x08, 0x12, 0x04)],
  // Control (SPC-4 7.5.8): unrestricted reordering.
  [0x0a, page(0x0a, 0x0a, 0x00, 0x10)],
  // Informational exceptions control (SPC-4 7.5.11): DEXCPT.
  [0x1c, page(0x1c, 0x0a, 0x08)],
]);

/**
 * The asked pages one after the other (3Fh: all), or undefined when there is no such page or subpage. `changeable` asks
 * for the mask of what MODE SELECT may change instead: nothing.
 */
export function modePages(code: number, subpage: number, changeable: boolean): Buffer | undefined {
  if (subpage !== 0 && subpage !== ALL_SUBPAGES) return undefined;
  const asked = [...PAGES].filter(([known]) => code === ALL_PAGES || known === code).map(([, bytes]) => bytes);
  if (asked.length === 0) return undefined;
  return Buffer.concat(changeable ? asked.map(changeableMask) : asked);
}

function changeableMask(bytes: Buffer): Buffer {
  const mask = Buffer.alloc(bytes.length);
  bytes.copy(mask, 0, 0, 2);
  return mask;
}

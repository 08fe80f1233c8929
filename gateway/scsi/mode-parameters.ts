import { invariant } from '../base/errors.ts';
import { PROVISIONING_PAGE, PROVISIONING_SUBPAGE } from './thresholds.ts';

const ALL_PAGES = 0x3f;
const ALL_SUBPAGES = 0xff;

/** Where the bits lie that MODE SELECT may change, in the control page (SPC-4 7.5.8). */
const CONTROL = 0x0a;
const D_SENSE = { byte: 2, mask: 0x04 } as const;
const SWP = { byte: 4, mask: 0x08 } as const;

/** A page from its first bytes; the rest is zeros. PS is 0: nothing can be saved. */
function page(code: number, bodyBytes: number, ...body: readonly number[]): Buffer {
  invariant(body.length <= bodyBytes, `mode page ${code} is too long`);
  const bytes = Buffer.alloc(2 + bodyBytes);
  bytes.set([code, bodyBytes, ...body]);
  return bytes;
}

/** The mode pages with their default values, in ascending order of their codes (SPC-4 7.5, SBC-3). */
const DEFAULTS: ReadonlyMap<number, Buffer> = new Map([
  // Read-write error recovery (SBC-3): AWRE, ARRE.
  [0x01, page(0x01, 0x0a, 0xc0)],
  // Disconnect-reconnect (SPC-4 7.5.10): no limits.
  [0x02, page(0x02, 0x0e)],
  // Caching (SBC-3): WCE, so that hosts flush.
  [0x08, page(0x08, 0x12, 0x04)],
  // Control (SPC-4 7.5.8): unrestricted reordering.
  [CONTROL, page(CONTROL, 0x0a, 0x00, 0x10)],
  // Informational exceptions control (SPC-4 7.5.11): DEXCPT.
  [0x1c, page(0x1c, 0x0a, 0x08)],
]);

/** What of the page may be changed, as MODE SENSE reports it. */
function changeableMask(bytes: Buffer): Buffer {
  const mask = Buffer.alloc(bytes.length);
  bytes.copy(mask, 0, 0, 2);
  if (bytes[0] === CONTROL) {
    mask[D_SENSE.byte] = D_SENSE.mask;
    mask[SWP.byte] = SWP.mask;
  }
  return mask;
}

/** Of a page with a subpage code: nothing of it can be changed. */
function subpageValues(bytes: Buffer, values: PageValues): Buffer {
  if (values !== 'changeable') return bytes;
  const mask = Buffer.alloc(bytes.length);
  bytes.copy(mask, 0, 0, 4);
  return mask;
}

function firstDifference(sent: Buffer, known: Buffer): number | undefined {
  if (sent.length !== known.length) return 2;
  const at = sent.findIndex((byte, index) => byte !== known[index]);
  return at < 0 ? undefined : at;
}

export type PageValues = 'current' | 'changeable' | 'default';

/**
 * The mode parameters of a logical unit, one set for all initiators (shared mode page policy, SPC-4 7.8.14). They have
 * their default values after power on and after a reset: none are saved.
 */
export class ModeParameters {
  /** SWP: no command may change the medium. */
  #softwareWriteProtect = false;
  /** D_SENSE: sense data has descriptor format. */
  #descriptorSense = false;

  get softwareWriteProtect(): boolean {
    return this.#softwareWriteProtect;
  }

  get descriptorSense(): boolean {
    return this.#descriptorSense;
  }

  /**
   * The asked pages one after the other (3Fh: all; subpage FFh: with their subpages), or undefined when there is no such page or subpage.
   * `provisioning`: the Logical Block Provisioning page, the one with a subpage code, which comes last.
   */
  pages(code: number, subpage: number, values: PageValues, provisioning: Buffer): Buffer | undefined {
    if (code === PROVISIONING_PAGE && subpage === PROVISIONING_SUBPAGE) return subpageValues(provisioning, values);
    if (subpage !== 0 && subpage !== ALL_SUBPAGES) return undefined;
    const asked = [...DEFAULTS].filter(([known]) => code === ALL_PAGES || known === code);
    if (asked.length === 0) return undefined;
    const pages = asked.map(([, bytes]) => this.#valuesOf(bytes, values));
    const isWithSubpage = subpage === ALL_SUBPAGES && (code === ALL_PAGES || code === PROVISIONING_PAGE);
    return Buffer.concat(isWithSubpage ? [...pages, subpageValues(provisioning, values)] : pages);
  }

  /** Where in a page sent with MODE SELECT something is wrong (0 is its first byte); undefined when it may be applied. */
  fault(sent: Buffer, provisioning: Buffer): number | undefined {
    if (sent.subarray(0, 2).equals(provisioning.subarray(0, 2))) return firstDifference(sent, provisioning);
    const known = DEFAULTS.get(sent[0] ?? 0);
    if (known === undefined) return 0; // PS and SPF are reserved or unknown here too: both make the code another one
    if (sent.length !== known.length || sent[1] !== known[1]) return 1;
    const current = this.#valuesOf(known, 'current');
    const mask = changeableMask(known);
    const at = sent.findIndex(
      (byte, index) => index >= 2 && ((byte ^ (current[index] ?? 0)) & ~(mask[index] ?? 0)) !== 0,
    );
    return at < 0 ? undefined : at;
  }

  /** Applies a page that has no fault; whether it changed anything. */
  apply(sent: Buffer): boolean {
    if (sent[0] !== CONTROL) return false;
    const before = [this.#softwareWriteProtect, this.#descriptorSense];
    this.#softwareWriteProtect = ((sent[SWP.byte] ?? 0) & SWP.mask) !== 0;
    this.#descriptorSense = ((sent[D_SENSE.byte] ?? 0) & D_SENSE.mask) !== 0;
    return before[0] !== this.#softwareWriteProtect || before[1] !== this.#descriptorSense;
  }

  reset(): void {
    this.#softwareWriteProtect = false;
    this.#descriptorSense = false;
  }

  #valuesOf(bytes: Buffer, values: PageValues): Buffer {
    if (values === 'changeable') return changeableMask(bytes);
    if (values === 'default' || bytes[0] !== CONTROL) return bytes;
    const current = Buffer.from(bytes);
    if (this.#softwareWriteProtect) current[SWP.byte] = (current[SWP.byte] ?? 0) | SWP.mask;
    if (this.#descriptorSense) current[D_SENSE.byte] = (current[D_SENSE.byte] ?? 0) | D_SENSE.mask;
    return current;
  }
}

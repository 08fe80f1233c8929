import { KIB } from '../base/units.ts';
import { cutToBytes, printableJson } from '../base/text.ts';

/** One line of the log. */
export type AuditEntry = { readonly seq: number; readonly at: string; readonly event: string } & Readonly<
  Record<string, unknown>
>;

/** An entry is cut to it. The longest that is whole takes 512 maps away at once, each at a target of 223 bytes. */
const MAX_ENTRY_BYTES = 256 * KIB;
/** What is left of a text in an entry that is cut, and how many of its details are kept. */
const CUT_TEXT_BYTES = 512;
const CUT_DETAILS = 32;

/** The line of an entry, in visible characters whoever has chosen what is in it. One that is far too long keeps what is short in it, so that it still says who, where and what. */
export function entryLine(entry: AuditEntry): string {
  const line = `${printableJson(JSON.stringify(entry))}\n`;
  if (Buffer.byteLength(line) <= MAX_ENTRY_BYTES) return line;
  const { seq, at, event } = entry;
  const details = Object.entries(entry)
    .slice(0, CUT_DETAILS)
    .filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value) || value === null)
    .map(([key, value]) => [
      cutToBytes(key, CUT_TEXT_BYTES),
      typeof value === 'string' ? cutToBytes(value, CUT_TEXT_BYTES) : value,
    ]);
  return `${printableJson(JSON.stringify({ ...Object.fromEntries(details), seq, at, event, cut: true }))}\n`;
}

/** undefined when the line is no entry. */
export function parseEntry(line: string): AuditEntry | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null) return undefined;
    const { seq, at, event } = value as Readonly<Record<string, unknown>>;
    if (typeof seq !== 'number' || typeof at !== 'string' || typeof event !== 'string') return undefined;
    return { ...value, seq, at, event };
  } catch {
    return undefined;
  }
}

import { FarshoreError } from '../base/errors.ts';
import { MAX_NAME_BYTES } from './constants.ts';

/** iqn.yyyy-mm.authority[:string], eui. with 16 and naa. with 16 or 32 hexadecimal digits (RFC 7143 4.2.7). */
const IQN = /^iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[^:.-][^:]*(:.*)?$/u;
const EUI = /^eui\.[0-9a-f]{16}$/;
const NAA = /^naa\.([0-9a-f]{16}|[0-9a-f]{32})$/;

/** Mapped to nothing (RFC 3722 3, RFC 3454 table B.1). */
const NOTHING = /[\u00ad\u034f\u1806\u180b-\u180d\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]/gu;

/**
 * Prohibited output (RFC 3722 5): of ASCII all but letters, digits, '-', '.' and ':', and the ideographic full stop; then
 * spaces, controls, surrogates, private and unassigned characters, and those that are not plain text (RFC 3454 tables
 * C.1 to C.9).
 */
const PROHIBITED =
  /[\u0000-\u002c\u002f\u003b-\u0040\u005b-\u0060\u007b-\u007f\u3002\p{Z}\p{C}\u0340\u0341\u2ff0-\u2ffb\ufff9-\ufffd]/u;

type Parsed = { readonly name: string } | { readonly fault: string };

/**
 * The form in which names are compared: what the stringprep profile of RFC 3722 makes of it. Undefined when it is no
 * iSCSI name; that is all a peer is told.
 */
export function normalizeName(name: string): string | undefined {
  const parsed = parse(name);
  return 'name' in parsed ? parsed.name : undefined;
}

/** The same for a name that a person gave, as `what`; `input` says what is wrong with it. */
export function requireName(name: string, what: string): string {
  const parsed = parse(name);
  if ('name' in parsed) return parsed.name;
  throw new FarshoreError(
    'input',
    `${what} "${name}" is no iSCSI name; write it like iqn.2026-11.com.example:host1, eui.02004567a425678d or naa.52004567ba64678d (${parsed.fault})`,
  );
}

function parse(given: string): Parsed {
  // Before anything is made of it: what is far too long is not worth the work.
  if (Buffer.byteLength(given) > 2 * MAX_NAME_BYTES) return tooLong();
  const name = prepared(given);
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) return tooLong();
  const prohibited = PROHIBITED.exec(name)?.[0];
  if (prohibited !== undefined) return { fault: `the character ${described(prohibited)} is not allowed in it` };
  switch (name.slice(0, 4)) {
    case 'iqn.':
      return IQN.test(name)
        ? { name }
        : { fault: 'after "iqn." come year and month (yyyy-mm), a dot, and a domain name read backwards' };
    case 'eui.':
      return EUI.test(name) ? { name } : { fault: 'after "eui." come 16 hexadecimal digits' };
    case 'naa.':
      return NAA.test(name) ? { name } : { fault: 'after "naa." come 16 or 32 hexadecimal digits' };
    default:
      return { fault: 'it does not begin with "iqn.", "eui." or "naa."' };
  }
}

/** Mapping and normalisation (RFC 3722 3, 4): folding and form KC until neither changes anything, which is at once. */
function prepared(name: string): string {
  const once = folded(name.replace(NOTHING, '').normalize('NFKC')).normalize('NFKC');
  return folded(once).normalize('NFKC');
}

/** Case folding (RFC 3454 table B.2), character by character: the final sigma folds like any other. */
function folded(text: string): string {
  let result = '';
  // The dotless i is a letter of its own, and has the capital of another.
  for (const character of text)
    result += character === 'ı' ? character : Array.from(character.toUpperCase(), (c) => c.toLowerCase()).join('');
  return result;
}

function tooLong(): Parsed {
  return { fault: `it is longer than ${MAX_NAME_BYTES} bytes` };
}

function described(character: string): string {
  const code = `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
  return /^[\u0021-\u007e]$/.test(character) ? `"${character}"` : code;
}

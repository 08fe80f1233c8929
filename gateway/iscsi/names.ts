import { MAX_NAME_BYTES } from './constants.ts';

/** iqn.yyyy-mm.authority[:string], eui. with 16 and naa. with 16 or 32 hexadecimal digits (RFC 7143 4.2.7). */
const NAME =
  /^(iqn\.[0-9]{4}-[0-9]{2}\.[\p{L}\p{N}][\p{L}\p{N}._:-]*|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32}))$/u;

/**
 * The form in which names are compared: NFKC and lower case, what the stringprep profile of RFC 3722 amounts to for
 * characters it allows. Undefined when it is no iSCSI name.
 */
export function normalizeName(name: string): string | undefined {
  const normal = name.normalize('NFKC').toLowerCase();
  return Buffer.byteLength(normal) <= MAX_NAME_BYTES && NAME.test(normal) ? normal : undefined;
}

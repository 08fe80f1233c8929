import { BlockList, isIP } from 'node:net';
import { FarshoreError } from '../base/errors.ts';
import { normalizeAddress } from '../iscsi/target-registry.ts';

/**
 * An address (`10.1.2.3`, `fd00::7`) or a network (`10.1.2.0/24`) as it is kept and compared: lower case, IPv4 in IPv6 notation as IPv4.
 * `input` when it is neither.
 */
export function parseAddressRange(text: string): string {
  const [given = '', bits, ...rest] = text.split('/');
  const address = normalizeAddress(given);
  const family = isIP(address);
  const widest = family === 4 ? 32 : 128;
  const isRange = bits !== undefined && /^\d{1,3}$/.test(bits) && Number(bits) <= widest;
  if (family === 0 || rest.length > 0 || (bits !== undefined && !isRange)) {
    throw new FarshoreError(
      'input',
      `"${text}" is no address or network; write it like 10.1.2.3, 10.1.2.0/24, fd00::7 or fd00::/64`,
    );
  }
  return bits === undefined ? address : `${address}/${Number(bits)}`;
}

/** Whether a peer's address (normalised) lies in one of the ranges; everybody's does when there are none. */
export function addressMatcher(ranges: readonly string[]): (address: string) => boolean {
  if (ranges.length === 0) return () => true;
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => {
    const family = isIP(address);
    return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
  };
}

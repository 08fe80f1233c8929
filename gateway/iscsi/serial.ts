/** 32-bit serial number arithmetic (RFC 1982, RFC 7143 4.2.2.1). */

/** `serial` + `count`, wrapped. */
export function serialAdd(serial: number, count: number): number {
  return (serial + count) >>> 0;
}

/** How far `a` lies after `b`; negative when before. */
export function serialDistance(a: number, b: number): number {
  return (a - b) | 0;
}

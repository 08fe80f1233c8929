/** Offset of the first byte in which the pieces differ from `expected`; undefined when none does. */
export function firstDifference(pieces: readonly Buffer[], expected: Buffer): number | undefined {
  let offset = 0;
  for (const piece of pieces) {
    const wanted = expected.subarray(offset, offset + piece.length);
    if (!piece.equals(wanted)) return offset + piece.findIndex((byte, index) => byte !== wanted[index]);
    offset += piece.length;
  }
  return undefined;
}

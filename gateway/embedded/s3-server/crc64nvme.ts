/** CRC-64/NVME: polynomial ad93d23594c93659, reflected, initial value and final xor all ones. Check value of "123456789": ae8b14860a799888. */
const REFLECTED_POLYNOMIAL = 0x9a6c9329ac4bc9b5n;
const MASK_32 = 0xffff_ffffn;

const HIGH = new Uint32Array(256);
const LOW = new Uint32Array(256);
for (let byte = 0; byte < 256; byte += 1) {
  let value = BigInt(byte);
  for (let bit = 0; bit < 8; bit += 1) value = (value & 1n) === 1n ? (value >> 1n) ^ REFLECTED_POLYNOMIAL : value >> 1n;
  HIGH[byte] = Number(value >> 32n);
  LOW[byte] = Number(value & MASK_32);
}

/** The checksum of everything before `previous` was computed of, and then `data`. In two halves: BigInt per byte would be slow. */
export function crc64nvme(data: Uint8Array, previous = 0n): bigint {
  let high = ~Number(previous >> 32n) >>> 0;
  let low = ~Number(previous & MASK_32) >>> 0;
  for (const byte of data) {
    const index = (low ^ byte) & 0xff;
    low = (((low >>> 8) | (high << 24)) ^ (LOW[index] ?? 0)) >>> 0;
    high = ((high >>> 8) ^ (HIGH[index] ?? 0)) >>> 0;
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0);
}

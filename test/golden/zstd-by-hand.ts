import { integer } from './format-doc.ts';

/** One block of a zstd frame: bytes as they are, or one byte repeated. */
export type ZstdBlock = { readonly raw: Buffer } | { readonly repeat: number; readonly times: number };

/** A zstd frame of raw and RLE blocks (RFC 8878, 3.1.1), single segment, with a content size of 4 bytes. */
export function zstdFrame(blocks: readonly ZstdBlock[]): Buffer {
  const sizes = blocks.map((block) => ('raw' in block ? block.raw.length : block.times));
  const content = sizes.reduce((sum, size) => sum + size, 0);
  const descriptor = (2 << 6) | (1 << 5);
  const parts = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor]), integer(content, 4)];
  blocks.forEach((block, at) => {
    const last = at === blocks.length - 1 ? 1 : 0;
    const type = 'raw' in block ? 0 : 1;
    parts.push(integer(((sizes[at] ?? 0) << 3) | (type << 1) | last, 3));
    parts.push('raw' in block ? block.raw : Buffer.from([block.repeat]));
  });
  return Buffer.concat(parts);
}

/**
 * Flavoured numbers: a plain number flows in, but one unit does not flow into another by mistake.
 * All of them are non-negative safe integers.
 */
type Flavour<Unit extends string> = number & { readonly __unit?: Unit };

/** Logical block address as the initiator counts it: in sectors of the LUN (512 or 4096 bytes). */
export type Lba = Flavour<'lba'>;
/** Number of sectors of the LUN. */
export type SectorCount = Flavour<'sectors'>;
/** Index of a 4096-byte block, the unit of mapping. */
export type BlockNumber = Flavour<'block'>;
/** Number of 4096-byte blocks. */
export type BlockCount = Flavour<'blocks'>;
export type ByteCount = Flavour<'bytes'>;
/** Position of a write in a volume's history; every write operation has one, rising by one. */
export type WriteSeq = Flavour<'write-seq'>;
/** n: position of a version in the version log; the first is 1, 0 is "before any". */
export type VersionNumber = Flavour<'version'>;
/** Ownership term of a volume; only ever rises. */
export type Epoch = Flavour<'epoch'>;
/** 36-bit number of a segment inside its lineage, never reused; 0 is "never written". */
export type SegmentNumber = Flavour<'segment'>;
/** Milliseconds since 1970-01-01T00:00:00Z. */
export type WallMillis = Flavour<'wall-ms'>;

export const BLOCK_SIZE = 4096;
export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** Largest volume: 64 TiB. */
export const MAX_VOLUME_BYTES = 64 * TIB;

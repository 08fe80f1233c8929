/** Bounds of what one gateway's access control holds; the part of one volume has to fit an item of the table with room to spare. */
export const MAX_INITIATORS = 1024;
export const MAX_TARGETS = 256;
/** Volumes of one gateway, and some that were lost to others and not forgotten yet. */
export const MAX_VOLUMES = 1024;
/** Maps of one volume. */
export const MAX_MAPS = 512;
/** Addresses one map may be restricted to. */
export const MAX_ADDRESSES = 16;
/** LUN numbers are 0 to 255: single level, peripheral device addressing (SAM-5 4.7.7.2). */
export const MAX_LUN = 255;
/** What one logical unit may keep over a power loss. */
export const MAX_UNIT_STATE_BYTES = 64 * 1024;
/** RFC 7143 12.1.3 wants at least 96 bits where there is no IPsec. */
export const MIN_SECRET_BYTES = 12;
export const MAX_SECRET_BYTES = 255;
/** CHAP_N. */
export const MAX_USER_BYTES = 255;

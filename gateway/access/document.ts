import { z } from 'zod';
import {
  MAX_ADDRESSES,
  MAX_INITIATORS,
  MAX_LUN,
  MAX_MAPS,
  MAX_TARGETS,
  MAX_UNIT_STATE_BYTES,
  MAX_VOLUMES,
} from './limits.ts';
import { wrappedSchema } from './secret-box.ts';

/** Longest iSCSI name (RFC 7143 4.2.7.1), and room for what people call themselves. */
const nameText = z.string().min(1).max(223);
const identifier = z.string().min(1).max(128);
const time = z.number().int().nonnegative();
/** When and by whom; `cli:root` is what the command line claimed. */
const granted = { since: time, by: z.string().max(128) };

const chapSchema = z.strictObject({
  ...granted,
  user: z.string().min(1).max(255),
  secret: wrappedSchema,
  /** What the target proves in turn. */
  mutual: z.strictObject({ user: z.string().min(1).max(255), secret: wrappedSchema }).optional(),
});
export type Chap = Readonly<z.infer<typeof chapSchema>>;

const initiatorSchema = z.strictObject({
  name: nameText,
  ...granted,
  /** For every target that has no credential of its own. */
  chap: chapSchema.optional(),
  targets: z.array(z.strictObject({ target: nameText, chap: chapSchema })).max(MAX_TARGETS),
});
export type InitiatorEntry = Readonly<z.infer<typeof initiatorSchema>>;

const targetSchema = z.strictObject({ name: nameText, ...granted });

const discoverySchema = z.strictObject({
  /** undefined: for every initiator that has none of its own. */
  initiator: nameText.optional(),
  chap: chapSchema,
});
export type DiscoveryEntry = Readonly<z.infer<typeof discoverySchema>>;

const mapSchema = z.strictObject({
  initiator: nameText,
  target: nameText,
  lun: z.number().int().min(0).max(MAX_LUN),
  readOnly: z.boolean(),
  /** Addresses and networks it is good for; none: all. */
  addresses: z.array(z.string().max(64)).max(MAX_ADDRESSES),
  ...granted,
});
export type LunMap = Readonly<z.infer<typeof mapSchema>>;

/**
 * Orders two forms of one volume's part: the epoch it was changed under, then a count that rises with each change. Clocks play no part: an
 * epoch has one owner, and what a fenced gateway still changed is below what its taker did.
 */
export const stampSchema = z.strictObject({ epoch: time, revision: time });
export type Stamp = Readonly<z.infer<typeof stampSchema>>;

/** What of a volume travels with it. */
const contentShape = {
  /** Open to every initiator on loopback portals until the first map, and never again after it. */
  mode: z.enum(['open', 'mapped']),
  maps: z.array(mapSchema).max(MAX_MAPS),
  /** What its logical unit keeps over power loss (scsi/unit-state); absent: nothing. */
  unitState: z.string().max(MAX_UNIT_STATE_BYTES).optional(),
  stamp: stampSchema,
};

/** Credentials that came with a volume and differ from those the gateway has, where these are not that volume's alone (credentials.ts). */
const ownSchema = z.strictObject({
  initiators: z.array(initiatorSchema).max(MAX_INITIATORS),
  /** All there are of discovery sessions; absent: the gateway's. */
  discovery: z
    .array(discoverySchema)
    .max(MAX_INITIATORS + 1)
    .optional(),
});
export type OwnCredentials = Readonly<z.infer<typeof ownSchema>>;

const volumeSchema = z.strictObject({
  volume: identifier,
  name: identifier,
  target: nameText,
  ...contentShape,
  own: ownSchema.optional(),
});
export type VolumePart = Readonly<z.infer<typeof volumeSchema>>;

export const documentSchema = z.strictObject({
  format: z.literal(1),
  /** The entry of the audit log (its number) of the newest change that is in it; what was entered after it was not made. */
  audited: time.optional(),
  targets: z.array(targetSchema).max(MAX_TARGETS),
  initiators: z.array(initiatorSchema).max(MAX_INITIATORS),
  discovery: z.array(discoverySchema).max(MAX_INITIATORS + 1),
  volumes: z.array(volumeSchema).max(MAX_VOLUMES),
});
/** All access control of one gateway; a value, never changed in place. */
export type AccessDocument = Readonly<z.infer<typeof documentSchema>>;

/** The body of a volume's item in the table: its own part, and whatever of the gateway's its maps need. */
export const bodySchema = z.strictObject({
  format: z.literal(1),
  ...contentShape,
  targets: z.array(targetSchema).max(MAX_TARGETS),
  initiators: z.array(initiatorSchema).max(MAX_INITIATORS),
  discovery: z.array(discoverySchema).max(MAX_INITIATORS + 1),
});
export type AccessBody = Readonly<z.infer<typeof bodySchema>>;

export const EMPTY_DOCUMENT: AccessDocument = { format: 1, targets: [], initiators: [], discovery: [], volumes: [] };

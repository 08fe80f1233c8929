import type { AttributeValue } from '@aws-sdk/client-dynamodb';
import { PHYSICAL_SIZES } from '../base/block-device.ts';
import { FarshoreError, invariant } from '../base/errors.ts';
import type {
  AccessItem,
  CheckpointPointer,
  FenceNotice,
  GatewayBeat,
  Handover,
  VersionItem,
  VolumeItem,
  VolumeRef,
} from './version-log.ts';
import { MAX_ACCESS_BYTES, ON_REMOTE_LOSS, REPLICATION_MODES } from './version-log.ts';

/** Values ⇄ DynamoDB items. Every item says its format; another one is refused with `damaged`. */
export const ITEM_FORMAT = 1;

export type Item = Record<string, AttributeValue>;
export interface ItemKey extends Item {
  pk: AttributeValue.SMember;
  sk: AttributeValue.SMember;
}

const HASH_BYTES = 32;
const NAA_BYTES = 16;

export const text = (value: string): AttributeValue.SMember => ({ S: value });
export const number = (value: number): AttributeValue.NMember => {
  invariant(Number.isSafeInteger(value) && value >= 0, `${value} is a non-negative safe integer`);
  return { N: String(value) };
};
export const binary = (value: Buffer): AttributeValue.BMember => ({ B: value });

const key = (pk: string, sk: string): ItemKey => ({ pk: text(pk), sk: text(sk) });
export const lineagePartition = (lineage: string): string => `lineage#${lineage}`;
/** What the sort keys of volume items begin with; nothing else of a lineage sorts behind them. */
export const VOLUME_SORT_PREFIX = 'volume#';
export const volumeKey = ({ lineage, volume }: VolumeRef): ItemKey =>
  key(lineagePartition(lineage), `${VOLUME_SORT_PREFIX}${volume}`);
export const accessKey = ({ lineage, volume }: VolumeRef): ItemKey => key(`lineage#${lineage}`, `access#${volume}`);
export const numbersKey = (lineage: string): ItemKey => key(`lineage#${lineage}`, 'numbers');
export const rangeKey = (lineage: string, from: number): ItemKey =>
  key(`lineage#${lineage}`, `range#${from.toString(16).padStart(9, '0')}`);
export const logPartition = (volume: string): string => `log#${volume}`;
/** 16 hexadecimal digits, so that the order of strings is the order of versions. */
export const versionSortKey = (n: number): string => n.toString(16).padStart(16, '0');
export const versionKey = (volume: string, n: number): ItemKey => key(logPartition(volume), versionSortKey(n));
export const NAMES_PARTITION = 'names';
export const nameKey = (name: string): ItemKey => key(NAMES_PARTITION, name);
export const gatewayKey = (gateway: string): ItemKey => key(`gateway#${gateway}`, 'beat');

/** Reads attributes of one item; whatever is missing or of another type is `damaged`. */
class Reader {
  readonly #item: Item;
  readonly #what: string;

  constructor(item: Item, what: string) {
    this.#item = item;
    this.#what = what;
  }

  checkFormat(): void {
    const format = this.number('format');
    if (format !== ITEM_FORMAT)
      throw new FarshoreError('damaged', `the ${this.#what} has format ${format}; this Farshore knows ${ITEM_FORMAT}.`);
  }

  has(name: string): boolean {
    return this.#item[name] !== undefined;
  }

  text(name: string): string {
    const value = this.#item[name]?.S;
    return value ?? this.#damaged(name);
  }

  number(name: string): number {
    const value = this.#item[name]?.N;
    const parsed = value !== undefined && /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
    return Number.isSafeInteger(parsed) ? parsed : this.#damaged(name);
  }

  oneOf<T extends string | number>(name: string, found: string | number, allowed: readonly T[]): T {
    return allowed.find((value) => value === found) ?? this.#damaged(name);
  }

  binary(name: string, bytes?: number): Buffer {
    const value = this.#item[name]?.B;
    if (value === undefined || (bytes !== undefined && value.length !== bytes)) return this.#damaged(name);
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }

  map(name: string): Reader {
    const value = this.#item[name]?.M;
    return value === undefined ? this.#damaged(name) : new Reader(value, `${name} of the ${this.#what}`);
  }

  #damaged(name: string): never {
    throw new FarshoreError(
      'damaged',
      `the ${this.#what} is damaged: attribute ${name} is missing or not as it should be.`,
    );
  }
}

export function encodePointer(pointer: CheckpointPointer): AttributeValue.MMember {
  return {
    M: {
      sequence: number(pointer.sequence),
      maintenanceEpoch: number(pointer.maintenanceEpoch),
      n: number(pointer.n),
      epoch: number(pointer.epoch),
      chain: binary(pointer.chain),
    },
  };
}

export function encodeVolume(item: VolumeItem): Item {
  return {
    ...volumeKey(item),
    format: number(ITEM_FORMAT),
    lineage: text(item.lineage),
    volume: text(item.volume),
    name: text(item.name),
    bytes: number(item.bytes),
    sectorSize: number(item.sectorSize),
    ...(item.physicalSize === undefined ? {} : { physicalSize: number(item.physicalSize) }),
    ...(item.removable === undefined ? {} : { removable: number(item.removable ? 1 : 0) }),
    ...(item.quotaBytes === undefined ? {} : { quotaBytes: number(item.quotaBytes) }),
    replication: text(item.replication),
    ...(item.onRemoteLoss === undefined ? {} : { onRemoteLoss: text(item.onRemoteLoss) }),
    targetName: text(item.targetName),
    naa: binary(item.naa),
    createdAt: number(item.createdAt),
    epoch: number(item.epoch),
    // Absent where there is nothing to say: empty strings are not taken everywhere.
    ...(item.owner === '' ? {} : { owner: text(item.owner) }),
    floor: number(item.floor),
    ...(item.checkpoint === undefined ? {} : { checkpoint: encodePointer(item.checkpoint) }),
    maintenanceEpoch: number(item.maintenanceEpoch),
    retainedFrom: number(item.retainedFrom),
    ...(item.deletedAt === undefined ? {} : { deletedAt: number(item.deletedAt) }),
    ...(item.handover === undefined ? {} : { handover: encodeHandover(item.handover) }),
  };
}

export function encodeHandover({ to, state }: Handover): AttributeValue.SMember {
  return text(`${state}:${to}`);
}

function decodeHandover(reader: Reader): Handover {
  const [state = '', ...to] = reader.text('handover').split(':');
  return { state: reader.oneOf('handover', state, ['offered', 'accepted', 'released']), to: to.join(':') };
}

export function decodeVolume(item: Item, ref: VolumeRef): VolumeItem {
  const reader = new Reader(item, `item of volume ${ref.volume}`);
  reader.checkFormat();
  return {
    lineage: reader.text('lineage'),
    volume: reader.text('volume'),
    name: reader.text('name'),
    bytes: reader.number('bytes'),
    sectorSize: reader.oneOf('sectorSize', reader.number('sectorSize'), [512, 4096]),
    ...(reader.has('physicalSize')
      ? { physicalSize: reader.oneOf('physicalSize', reader.number('physicalSize'), PHYSICAL_SIZES) }
      : {}),
    ...(reader.has('removable')
      ? { removable: reader.oneOf('removable', reader.number('removable'), [0, 1]) === 1 }
      : {}),
    ...(reader.has('quotaBytes') ? { quotaBytes: reader.number('quotaBytes') } : {}),
    replication: reader.oneOf('replication', reader.text('replication'), REPLICATION_MODES),
    ...(reader.has('onRemoteLoss')
      ? { onRemoteLoss: reader.oneOf('onRemoteLoss', reader.text('onRemoteLoss'), ON_REMOTE_LOSS) }
      : {}),
    targetName: reader.text('targetName'),
    naa: reader.binary('naa', NAA_BYTES),
    createdAt: reader.number('createdAt'),
    epoch: reader.number('epoch'),
    owner: reader.has('owner') ? reader.text('owner') : '',
    floor: reader.number('floor'),
    checkpoint: reader.has('checkpoint') ? decodePointer(reader.map('checkpoint')) : undefined,
    maintenanceEpoch: reader.number('maintenanceEpoch'),
    retainedFrom: reader.number('retainedFrom'),
    deletedAt: reader.has('deletedAt') ? reader.number('deletedAt') : undefined,
    ...(reader.has('handover') ? { handover: decodeHandover(reader) } : {}),
  };
}

function decodePointer(reader: Reader): CheckpointPointer {
  return {
    sequence: reader.number('sequence'),
    maintenanceEpoch: reader.number('maintenanceEpoch'),
    n: reader.number('n'),
    epoch: reader.number('epoch'),
    chain: reader.binary('chain', HASH_BYTES),
  };
}

export function encodeVersion(volume: string, item: VersionItem): Item {
  invariant(item.chain.length === HASH_BYTES, 'a chain value has 32 bytes');
  return {
    ...versionKey(volume, item.n),
    format: number(ITEM_FORMAT),
    epoch: number(item.epoch),
    record: binary(item.record),
    chain: binary(item.chain),
    ...(item.inline.length === 0 ? {} : { inline: binary(item.inline) }),
  };
}

export function decodeVersion(item: Item, volume: string): VersionItem {
  const sortKey = item['sk']?.S ?? '';
  const n = /^[0-9a-f]{16}$/.test(sortKey) ? Number.parseInt(sortKey, 16) : Number.NaN;
  if (!Number.isSafeInteger(n))
    throw new FarshoreError('damaged', `the log of volume ${volume} holds an item '${sortKey}', which is no version.`);
  const reader = new Reader(item, `version ${n} of volume ${volume}`);
  reader.checkFormat();
  return {
    n,
    epoch: reader.number('epoch'),
    record: reader.binary('record'),
    chain: reader.binary('chain', HASH_BYTES),
    inline: reader.has('inline') ? reader.binary('inline') : Buffer.alloc(0),
  };
}

export function encodeAccess(ref: VolumeRef, item: AccessItem): Item {
  invariant(
    item.body.length > 0 && item.body.length <= MAX_ACCESS_BYTES,
    `the access of a volume has 1 to ${MAX_ACCESS_BYTES} bytes`,
  );
  return {
    ...accessKey(ref),
    format: number(ITEM_FORMAT),
    epoch: number(item.epoch),
    revision: number(item.revision),
    body: binary(item.body),
  };
}

export function decodeAccess(item: Item, ref: VolumeRef): AccessItem {
  const reader = new Reader(item, `access item of volume ${ref.volume}`);
  reader.checkFormat();
  return { epoch: reader.number('epoch'), revision: reader.number('revision'), body: reader.binary('body') };
}

export function encodeName(name: string, ref: VolumeRef): Item {
  return {
    ...nameKey(name),
    format: number(ITEM_FORMAT),
    lineage: text(ref.lineage),
    volume: text(ref.volume),
  };
}

export function decodeName(item: Item): { readonly name: string; readonly ref: VolumeRef } {
  const name = item['sk']?.S ?? '';
  const reader = new Reader(item, `binding of the name ${name}`);
  reader.checkFormat();
  return { name, ref: { lineage: reader.text('lineage'), volume: reader.text('volume') } };
}

/** Attributes of a heartbeat that are set at each beat. */
export function beatAttributes(beat: GatewayBeat): Item {
  return {
    format: number(ITEM_FORMAT),
    gateway: text(beat.gateway),
    at: number(beat.at),
    host: text(beat.host === '' ? '-' : beat.host),
    version: text(beat.version === '' ? '-' : beat.version),
    volumes: number(beat.volumes),
    dirtyBlocks: number(beat.dirtyBlocks),
  };
}

/** Notices are elements of a string set, so that leaving and clearing one is idempotent and touches no other. */
export const encodeNotice = ({ volume, epoch }: FenceNotice): string => `${epoch}:${volume}`;

export function decodeNotices(item: Item, gateway: string): FenceNotice[] {
  return (item['notices']?.SS ?? []).map((element) => {
    const match = /^(\d{1,16}):(.+)$/s.exec(element);
    if (match?.[1] === undefined || match[2] === undefined)
      throw new FarshoreError('damaged', `the item of gateway ${gateway} holds a notice '${element}' of unknown form.`);
    return { epoch: Number(match[1]), volume: match[2] };
  });
}

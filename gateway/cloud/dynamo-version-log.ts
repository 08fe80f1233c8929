import {
  BatchWriteItemCommand,
  ConditionalCheckFailedException,
  DeleteItemCommand,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import type { AttributeValue, DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { FarshoreError, invariant } from '../base/errors.ts';
import type { Epoch, VersionNumber } from '../base/units.ts';
import { callCloud } from './cloud-call.ts';
import type { CallTools } from './cloud-call.ts';
import {
  ITEM_FORMAT,
  NAMES_PARTITION,
  VOLUME_SORT_PREFIX,
  accessKey,
  beatAttributes,
  decodeAccess,
  decodeName,
  decodeNotices,
  decodeVersion,
  decodeVolume,
  encodeAccess,
  encodeHandover,
  encodeName,
  encodeNotice,
  encodePointer,
  encodeVersion,
  encodeVolume,
  gatewayKey,
  lineagePartition,
  logPartition,
  nameKey,
  number,
  numbersKey,
  rangeKey,
  text,
  versionKey,
  versionSortKey,
  volumeKey,
} from './dynamo-items.ts';
import type { Item, ItemKey } from './dynamo-items.ts';
import type {
  AccessItem,
  CheckpointPointer,
  FenceNotice,
  GatewayBeat,
  NumberRange,
  VersionItem,
  VersionLog,
  VolumeChanges,
  VolumeItem,
  VolumeRef,
} from './version-log.ts';

export interface DynamoVersionLogOptions extends CallTools {
  readonly client: DynamoDBClient;
  readonly table: string;
  /** Where requests go, for messages. */
  readonly place: string;
}

type Outcome = 'ok' | 'conflict';

const DEADLINE_MS = 10_000;
/** Segment numbers have 36 bits; 0 is never given out. */
const NUMBERS_END = 2 ** 36;
/** A batch write takes 25. */
export const MAX_DELETES_PER_CALL = 25;
/** Ranges that are in the ledger already are skipped; the counter is behind it only in a table restored from a backup. */
const MAX_RANGE_ATTEMPTS = 1000;
/** Names in one table; a page of names holds thousands. */
const MAX_NAME_PAGES = 1000;
/** Pages without an item before the end of a query; DynamoDB returns them only with filters, which we don't use. */
const MAX_EMPTY_PAGES = 100;

/** Every attribute is referred to through `#name`, since many are reserved words. */
function names(...attributes: readonly string[]): Record<string, string> {
  return Object.fromEntries(attributes.map((name) => [`#${name}`, name]));
}

/** VersionLog on DynamoDB: one table, strongly consistent reads, one conditional single-item write per operation. */
export class DynamoVersionLog implements VersionLog {
  readonly #options: DynamoVersionLogOptions;

  constructor(options: DynamoVersionLogOptions) {
    this.#options = options;
  }

  async getVolume(ref: VolumeRef): Promise<VolumeItem | undefined> {
    const item = await this.#get(`read volume ${ref.volume}`, volumeKey(ref));
    return item === undefined ? undefined : decodeVolume(item, ref);
  }

  createVolume(item: VolumeItem): Promise<Outcome> {
    return this.#put(`create volume ${item.volume}`, encodeVolume(item), {
      condition: 'attribute_not_exists(#pk)',
      names: names('pk'),
    });
  }

  async listVolumes(lineage: string): Promise<VolumeItem[]> {
    const found: VolumeItem[] = [];
    let start: Item | undefined;
    for (let page = 0; page < MAX_NAME_PAGES; page += 1) {
      const partition = lineagePartition(lineage);
      const query = { partition, from: VOLUME_SORT_PREFIX, start };
      const { items, next } = await this.#query(`list the volumes of lineage ${lineage}`, query);
      for (const item of items) {
        const sortKey = item['sk']?.S ?? '';
        if (!sortKey.startsWith(VOLUME_SORT_PREFIX)) continue;
        found.push(decodeVolume(item, { lineage, volume: sortKey.slice(VOLUME_SORT_PREFIX.length) }));
      }
      if (next === undefined) return found;
      start = next;
    }
    throw new FarshoreError('input', `lineage ${lineage} holds more volumes than can be listed.`);
  }

  raiseEpoch(ref: VolumeRef, from: Epoch, to: Epoch, owner: string): Promise<Outcome> {
    invariant(to > from, `an epoch only rises, not from ${from} to ${to}`);
    return this.#update(`raise the epoch of volume ${ref.volume}`, volumeKey(ref), {
      update: 'SET #epoch = :to, #owner = :owner REMOVE #handover',
      condition: '#epoch = :from',
      names: names('epoch', 'owner', 'handover'),
      values: { ':from': number(from), ':to': number(to), ':owner': text(owner) },
    });
  }

  changeVolume(ref: VolumeRef, epoch: Epoch, changes: VolumeChanges): Promise<Outcome> {
    const set: Record<string, AttributeValue> = {};
    if (changes.bytes !== undefined) set['bytes'] = number(changes.bytes);
    if (changes.replication !== undefined) set['replication'] = text(changes.replication);
    if (changes.onRemoteLoss !== undefined) set['onRemoteLoss'] = text(changes.onRemoteLoss);
    if (changes.retainedFrom !== undefined) set['retainedFrom'] = number(changes.retainedFrom);
    if (typeof changes.deletedAt === 'number') set['deletedAt'] = number(changes.deletedAt);
    if (typeof changes.quotaBytes === 'number') set['quotaBytes'] = number(changes.quotaBytes);
    if (changes.handover) set['handover'] = encodeHandover(changes.handover);
    const assignments = ['#epoch = :epoch', ...Object.keys(set).map((name) => `#${name} = :${name}`)];
    const removed = (['deletedAt', 'quotaBytes', 'handover'] as const).filter((name) => changes[name] === null);
    const removal = removed.length === 0 ? '' : ` REMOVE ${removed.map((name) => `#${name}`).join(', ')}`;
    return this.#update(`change volume ${ref.volume}`, volumeKey(ref), {
      update: `SET ${assignments.join(', ')}${removal}`,
      condition: '#epoch = :epoch',
      names: names('epoch', ...Object.keys(set), ...removed),
      values: { ':epoch': number(epoch), ...prefixed(set) },
    });
  }

  raiseMaintenanceEpoch(ref: VolumeRef, from: number): Promise<Outcome> {
    return this.#update(`raise the maintenance epoch of volume ${ref.volume}`, volumeKey(ref), {
      update: 'SET #maintenanceEpoch = :to',
      condition: '#maintenanceEpoch = :from',
      names: names('maintenanceEpoch'),
      values: { ':from': number(from), ':to': number(from + 1) },
    });
  }

  publishCheckpoint(ref: VolumeRef, pointer: CheckpointPointer): Promise<Outcome> {
    return this.#update(`publish a checkpoint of volume ${ref.volume}`, volumeKey(ref), {
      update: 'SET #checkpoint = :pointer',
      condition: '#maintenanceEpoch = :maintenanceEpoch AND (attribute_not_exists(#checkpoint) OR #checkpoint.#n < :n)',
      names: names('maintenanceEpoch', 'checkpoint', 'n'),
      values: {
        ':pointer': encodePointer(pointer),
        ':maintenanceEpoch': number(pointer.maintenanceEpoch),
        ':n': number(pointer.n),
      },
    });
  }

  raiseFloor(ref: VolumeRef, floor: VersionNumber, maintenanceEpoch: number): Promise<Outcome> {
    return this.#update(`raise the floor of volume ${ref.volume}`, volumeKey(ref), {
      update: 'SET #floor = :floor',
      condition: '#maintenanceEpoch = :maintenanceEpoch AND #floor < :floor AND #checkpoint.#n >= :floor',
      names: names('maintenanceEpoch', 'checkpoint', 'n', 'floor'),
      values: { ':floor': number(floor), ':maintenanceEpoch': number(maintenanceEpoch) },
    });
  }

  removeVolume(ref: VolumeRef, epoch: Epoch): Promise<Outcome> {
    return this.#delete(`remove volume ${ref.volume}`, volumeKey(ref), {
      condition: '#epoch = :epoch AND attribute_exists(#deletedAt)',
      names: names('epoch', 'deletedAt'),
      values: { ':epoch': number(epoch) },
    });
  }

  async getAccess(ref: VolumeRef): Promise<AccessItem | undefined> {
    const item = await this.#get(`read the access of volume ${ref.volume}`, accessKey(ref));
    return item === undefined ? undefined : decodeAccess(item, ref);
  }

  putAccess(ref: VolumeRef, item: AccessItem): Promise<Outcome> {
    invariant(item.revision >= 1, 'revisions count from 1');
    const isFirst = item.revision === 1;
    return this.#put(`write the access of volume ${ref.volume}`, encodeAccess(ref, item), {
      condition: isFirst ? 'attribute_not_exists(#pk)' : '#revision = :before AND #epoch <= :epoch',
      names: isFirst ? names('pk') : names('revision', 'epoch'),
      ...(isFirst ? {} : { values: { ':before': number(item.revision - 1), ':epoch': number(item.epoch) } }),
    });
  }

  removeAccess(ref: VolumeRef, epoch: Epoch): Promise<Outcome> {
    return this.#delete(`remove the access of volume ${ref.volume}`, accessKey(ref), {
      condition: 'attribute_not_exists(#pk) OR #epoch <= :epoch',
      names: names('pk', 'epoch'),
      values: { ':epoch': number(epoch) },
    });
  }

  putVersion(volume: string, item: VersionItem, previousEpoch: Epoch): Promise<Outcome> {
    return this.#put(`put version ${item.n} of volume ${volume}`, encodeVersion(volume, item), {
      condition: 'attribute_not_exists(#pk) OR #epoch < :previous',
      names: names('pk', 'epoch'),
      values: { ':previous': number(previousEpoch) },
    });
  }

  async getVersion(volume: string, n: VersionNumber): Promise<VersionItem | undefined> {
    const item = await this.#get(`read version ${n} of volume ${volume}`, versionKey(volume, n));
    return item === undefined ? undefined : decodeVersion(item, volume);
  }

  async listVersions(volume: string, from: VersionNumber, limit: number): Promise<VersionItem[]> {
    invariant(limit >= 1, `a page of versions has at least one item, not ${limit}`);
    let start: Item | undefined;
    for (let page = 0; page < MAX_EMPTY_PAGES; page += 1) {
      const { items, next } = await this.#query(`list versions of volume ${volume}`, {
        partition: logPartition(volume),
        from: versionSortKey(from),
        limit,
        start,
      });
      if (items.length > 0 || next === undefined) return items.map((item) => decodeVersion(item, volume));
      start = next;
    }
    throw new FarshoreError('retry', `DynamoDB: could not list versions of volume ${volume}: only empty pages came.`);
  }

  async deleteVersions(volume: string, ns: readonly VersionNumber[]): Promise<void> {
    invariant(ns.length <= MAX_DELETES_PER_CALL, `at most ${MAX_DELETES_PER_CALL} versions at once, not ${ns.length}`);
    const { table, client } = this.#options;
    // A batch must not name an item twice.
    let left: { DeleteRequest: { Key: Item } }[] = [...new Set(ns)].map((n) => ({
      DeleteRequest: { Key: versionKey(volume, n) },
    }));
    if (left.length === 0) return;
    await this.#call(`delete versions of volume ${volume}`, 'always', async (signal) => {
      const answer = await client.send(new BatchWriteItemCommand({ RequestItems: { [table]: left } }), {
        abortSignal: signal,
      });
      const unprocessed = answer.UnprocessedItems?.[table] ?? [];
      left = unprocessed.flatMap(({ DeleteRequest: request }) =>
        request?.Key === undefined ? [] : [{ DeleteRequest: { Key: request.Key } }],
      );
      if (left.length > 0) throw new FarshoreError('retry', `DynamoDB left ${left.length} deletions undone.`);
    });
  }

  async allocateNumbers(ref: VolumeRef, epoch: Epoch, count: number): Promise<NumberRange> {
    invariant(Number.isSafeInteger(count) && count >= 1 && count < NUMBERS_END, `${count} numbers can be allocated`);
    for (let attempt = 0; attempt < MAX_RANGE_ATTEMPTS; attempt += 1) {
      const range = await this.#advanceNumbers(ref.lineage, count);
      const entered = await this.#put(
        `enter numbers ${range.from} to ${range.to} in the ledger of lineage ${ref.lineage}`,
        {
          ...rangeKey(ref.lineage, range.from),
          format: number(ITEM_FORMAT),
          volume: text(ref.volume),
          epoch: number(epoch),
          from: number(range.from),
          to: number(range.to),
        },
        { condition: 'attribute_not_exists(#pk)', names: names('pk') },
      );
      if (entered === 'ok') return range;
    }
    throw new FarshoreError(
      'damaged',
      `the number counter of lineage ${ref.lineage} is far behind its ledger; was the table restored from a backup?`,
    );
  }

  claimName(name: string, ref: VolumeRef): Promise<Outcome> {
    return this.#put(`claim the name ${name}`, encodeName(name, ref), {
      condition: 'attribute_not_exists(#pk) OR (#lineage = :lineage AND #volume = :volume)',
      names: names('pk', 'lineage', 'volume'),
      values: refValues(ref),
    });
  }

  async resolveName(name: string): Promise<VolumeRef | undefined> {
    const item = await this.#get(`look up the name ${name}`, nameKey(name));
    return item === undefined ? undefined : decodeName(item).ref;
  }

  rebindName(name: string, from: VolumeRef, to: VolumeRef): Promise<Outcome> {
    return this.#put(`rebind the name ${name}`, encodeName(name, to), boundTo(from));
  }

  releaseName(name: string, ref: VolumeRef): Promise<Outcome> {
    return this.#delete(`release the name ${name}`, nameKey(name), boundTo(ref));
  }

  async listNames(): Promise<{ readonly name: string; readonly ref: VolumeRef }[]> {
    const found: { readonly name: string; readonly ref: VolumeRef }[] = [];
    let start: Item | undefined;
    for (let page = 0; page < MAX_NAME_PAGES; page += 1) {
      const { items, next } = await this.#query('list volume names', { partition: NAMES_PARTITION, start });
      found.push(...items.map((item) => decodeName(item)));
      if (next === undefined) return found;
      start = next;
    }
    throw new FarshoreError('input', `the table ${this.#options.table} holds more volume names than can be listed.`);
  }

  async beat(beat: GatewayBeat): Promise<FenceNotice[]> {
    const attributes = beatAttributes(beat);
    const item = await this.#call(`renew the lease of gateway ${beat.gateway}`, 'always', async (signal) => {
      const answer = await this.#options.client.send(
        new UpdateItemCommand({
          TableName: this.#options.table,
          Key: gatewayKey(beat.gateway),
          UpdateExpression: `SET ${Object.keys(attributes)
            .map((name) => `#${name} = :${name}`)
            .join(', ')}`,
          ExpressionAttributeNames: names(...Object.keys(attributes)),
          ExpressionAttributeValues: prefixed(attributes),
          ReturnValues: 'ALL_NEW',
        }),
        { abortSignal: signal },
      );
      return answer.Attributes ?? {};
    });
    return decodeNotices(item, beat.gateway);
  }

  notify(gateway: string, notice: FenceNotice): Promise<void> {
    return this.#changeNotices('ADD', gateway, [notice]);
  }

  async clearNotices(gateway: string, notices: readonly FenceNotice[]): Promise<void> {
    if (notices.length > 0) await this.#changeNotices('DELETE', gateway, notices);
  }

  async #changeNotices(action: 'ADD' | 'DELETE', gateway: string, notices: readonly FenceNotice[]): Promise<void> {
    await this.#call(`change the notices of gateway ${gateway}`, 'always', (signal) =>
      this.#options.client.send(
        new UpdateItemCommand({
          TableName: this.#options.table,
          Key: gatewayKey(gateway),
          UpdateExpression: `${action} #notices :notices`,
          ExpressionAttributeNames: names('notices'),
          ExpressionAttributeValues: { ':notices': { SS: [...new Set(notices.map(encodeNotice))] } },
        }),
        { abortSignal: signal },
      ),
    );
  }

  /** One atomic step of the lineage's counter. Its outcome unknown, the numbers are lost, which is harmless. */
  async #advanceNumbers(lineage: string, count: number): Promise<NumberRange> {
    const what = `allocate ${count} segment numbers of lineage ${lineage}`;
    const next = await this.#call(what, 'always', async (signal) => {
      try {
        const answer = await this.#options.client.send(
          new UpdateItemCommand({
            TableName: this.#options.table,
            Key: numbersKey(lineage),
            UpdateExpression: 'SET #next = if_not_exists(#next, :first) + :count, #format = :format',
            ConditionExpression: 'attribute_not_exists(#next) OR #next <= :last',
            ExpressionAttributeNames: names('next', 'format'),
            ExpressionAttributeValues: {
              ':first': number(1),
              ':count': number(count),
              ':last': number(NUMBERS_END - count),
              ':format': number(ITEM_FORMAT),
            },
            ReturnValues: 'UPDATED_NEW',
          }),
          { abortSignal: signal },
        );
        return Number(answer.Attributes?.['next']?.N);
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
        throw new FarshoreError(
          'input',
          `lineage ${lineage} has used up its segment numbers; copy the volume to a new one.`,
        );
      }
    });
    if (!Number.isSafeInteger(next) || next - count < 1)
      throw new FarshoreError('damaged', `the number counter of lineage ${lineage} is no number.`);
    return { from: next - count, to: next };
  }

  async #get(what: string, key: ItemKey): Promise<Item | undefined> {
    const answer = await this.#call(what, 'always', (signal) =>
      this.#options.client.send(
        new GetItemCommand({ TableName: this.#options.table, Key: key, ConsistentRead: true }),
        { abortSignal: signal },
      ),
    );
    return answer.Item;
  }

  async #query(
    what: string,
    page: QueryPage,
  ): Promise<{ readonly items: readonly Item[]; readonly next: Item | undefined }> {
    const bounded = page.from !== undefined;
    const answer = await this.#call(what, 'always', (signal) =>
      this.#options.client.send(
        new QueryCommand({
          TableName: this.#options.table,
          ConsistentRead: true,
          KeyConditionExpression: bounded ? '#pk = :pk AND #sk >= :from' : '#pk = :pk',
          ExpressionAttributeNames: bounded ? names('pk', 'sk') : names('pk'),
          ExpressionAttributeValues: {
            ':pk': text(page.partition),
            ...(page.from === undefined ? {} : { ':from': text(page.from) }),
          },
          ...(page.limit === undefined ? {} : { Limit: page.limit }),
          ...(page.start === undefined ? {} : { ExclusiveStartKey: page.start }),
        }),
        { abortSignal: signal },
      ),
    );
    return { items: answer.Items ?? [], next: answer.LastEvaluatedKey };
  }

  #put(what: string, item: Item, guard: Guard): Promise<Outcome> {
    return this.#guarded(what, (signal) =>
      this.#options.client.send(
        new PutItemCommand({ TableName: this.#options.table, Item: item, ...guardInput(guard) }),
        { abortSignal: signal },
      ),
    );
  }

  #update(what: string, key: ItemKey, change: Guard & { readonly update: string }): Promise<Outcome> {
    return this.#guarded(what, (signal) =>
      this.#options.client.send(
        new UpdateItemCommand({
          TableName: this.#options.table,
          Key: key,
          UpdateExpression: change.update,
          ...guardInput(change),
        }),
        { abortSignal: signal },
      ),
    );
  }

  #delete(what: string, key: ItemKey, guard: Guard): Promise<Outcome> {
    return this.#guarded(what, (signal) =>
      this.#options.client.send(
        new DeleteItemCommand({ TableName: this.#options.table, Key: key, ...guardInput(guard) }),
        { abortSignal: signal },
      ),
    );
  }

  /** Never repeated once its outcome is unknown: then the next attempt could meet our own success and call it a conflict. */
  #guarded(what: string, attempt: (signal: AbortSignal) => Promise<unknown>): Promise<Outcome> {
    return this.#call(what, 'unapplied', async (signal) => {
      try {
        await attempt(signal);
        return 'ok';
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) return 'conflict';
        throw error;
      }
    });
  }

  #call<T>(what: string, repeat: 'always' | 'unapplied', attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { table, place } = this.#options;
    const options = { service: 'DynamoDB', resource: table, place, what, repeat, deadlineMs: DEADLINE_MS } as const;
    return callCloud(this.#options, options, attempt);
  }
}

interface QueryPage {
  readonly partition: string;
  readonly from?: string;
  readonly limit?: number;
  readonly start: Item | undefined;
}

interface Guard {
  readonly condition: string;
  readonly names: Record<string, string>;
  readonly values?: Item;
}

function guardInput({ condition, names: attributeNames, values }: Guard) {
  return {
    ConditionExpression: condition,
    ExpressionAttributeNames: attributeNames,
    ...(values === undefined ? {} : { ExpressionAttributeValues: values }),
  };
}

function prefixed(attributes: Item): Item {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`:${name}`, value]));
}

function refValues({ lineage, volume }: VolumeRef): Item {
  return { ':lineage': text(lineage), ':volume': text(volume) };
}

function boundTo(ref: VolumeRef): Guard {
  return {
    condition: '#lineage = :lineage AND #volume = :volume',
    names: names('lineage', 'volume'),
    values: refValues(ref),
  };
}

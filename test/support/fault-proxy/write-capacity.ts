import type { Clock } from '../../../gateway/base/clock.ts';

/** Bytes of an item that one write unit pays for. */
const UNIT_BYTES = 1024;
/** Partitions that are remembered; the one that rested longest is forgotten, which gives it back what it has used. */
const MAX_PARTITIONS = 4096;

/** A value as DynamoDB's JSON has it. */
type Attribute = Readonly<Record<string, unknown>>;
type Item = Readonly<Record<string, Attribute>>;

/**
 * The write units of each partition key, as a partition of DynamoDB gives them: so many a second, and what a second leaves over is gone with
 * the next one.
 */
export class WriteCapacity {
  readonly #clock: Clock;
  readonly #left = new Map<string, { units: number; atMs: number }>();
  /** undefined: as much as is asked for. */
  unitsPerSecond: number | undefined;
  throttled = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the request may be done; then its units are used. `body`: of a request to DynamoDB. */
  take(operation: string, body: Buffer): boolean {
    const { unitsPerSecond } = this;
    if (unitsPerSecond === undefined) return true;
    const asked = writesOf(operation, body);
    for (const [key, units] of asked) {
      const have = this.#fill(key, unitsPerSecond);
      // One item may be larger than what a second gives.
      if (have.units < Math.min(units, unitsPerSecond)) {
        this.throttled += 1;
        return false;
      }
    }
    for (const [key, units] of asked) this.#fill(key, unitsPerSecond).units -= units;
    return true;
  }

  #fill(key: string, unitsPerSecond: number): { units: number } {
    const now = this.#clock.monotonicMs();
    const have = this.#left.get(key) ?? { units: unitsPerSecond, atMs: now };
    this.#left.delete(key);
    this.#left.set(key, have);
    if (this.#left.size > MAX_PARTITIONS) for (const oldest of this.#left.keys()) if (this.#left.delete(oldest)) break;
    have.units = Math.min(unitsPerSecond, have.units + ((now - have.atMs) / 1000) * unitsPerSecond);
    have.atMs = now;
    return have;
  }
}

/** Units by partition key. Of an update or a deletion the item's size is not known here: what the request says counts. */
export function writesOf(operation: string, body: Buffer): ReadonlyMap<string, number> {
  const units = new Map<string, number>();
  const add = (key: Attribute | undefined, item: Item): void => {
    const name = JSON.stringify(key ?? '');
    units.set(name, (units.get(name) ?? 0) + Math.max(1, Math.ceil(itemBytes(item) / UNIT_BYTES)));
  };
  if (!['PutItem', 'UpdateItem', 'DeleteItem', 'BatchWriteItem'].includes(operation)) return units;
  const request = JSON.parse(body.toString('utf8')) as {
    readonly Item?: Item;
    readonly Key?: Item;
    readonly ExpressionAttributeValues?: Item;
    readonly RequestItems?: Readonly<
      Record<string, readonly { readonly PutRequest?: { Item: Item }; readonly DeleteRequest?: { Key: Item } }[]>
    >;
  }; // as the SDK writes it
  const { Item: item, Key: key, ExpressionAttributeValues: values, RequestItems: batches } = request;
  if (item !== undefined) add(item['pk'], item);
  if (key !== undefined) add(key['pk'], { ...key, ...values });
  for (const batch of Object.values(batches ?? {}))
    for (const { PutRequest: put, DeleteRequest: deletion } of batch) {
      if (put !== undefined) add(put.Item['pk'], put.Item);
      if (deletion !== undefined) add(deletion.Key['pk'], deletion.Key);
    }
  return units;
}

/** As DynamoDB counts: names and values in UTF-8, bytes as they are, numbers by their digits, a little for what nests. */
function itemBytes(item: Item): number {
  return Object.entries(item).reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + valueBytes(value), 0);
}

const NESTED_BYTES = 3;

function valueBytes(value: Attribute): number {
  return Object.entries(value).reduce((sum, [type, content]) => {
    if (type === 'B' && typeof content === 'string') return sum + Buffer.byteLength(content, 'base64');
    if (type === 'N' && typeof content === 'string') return sum + Math.ceil(content.length / 2) + 1;
    if (typeof content === 'string') return sum + Buffer.byteLength(content);
    if (type === 'M') return sum + NESTED_BYTES + itemBytes(content as Item);
    if (type === 'L')
      return (content as Attribute[]).reduce((all, each) => all + 1 + valueBytes(each), sum + NESTED_BYTES);
    if (Array.isArray(content)) return (content as string[]).reduce((all, each) => all + Buffer.byteLength(each), sum);
    return sum + 1;
  }, 0);
}

import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** Attributes as a test writes and reads them: tag, then a number, a text or raw bytes. Nothing here is the product's own codec. */
export type Tlv = readonly [tag: number, value: number | string | Buffer];

export const tlvBytes = (attributes: readonly Tlv[]): Buffer =>
  Buffer.concat(
    attributes.map(([tag, value]) => {
      const bytes =
        typeof value === 'number'
          ? Buffer.from([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255])
          : typeof value === 'string'
            ? Buffer.concat([Buffer.from(value), Buffer.alloc(4 - (Buffer.byteLength(value) % 4))])
            : value;
      return Buffer.concat([
        Buffer.from([0, 0, tag >> 8, tag & 255, 0, 0, bytes.length >> 8, bytes.length & 255]),
        bytes,
      ]);
    }),
  );

export interface PduFields {
  readonly version?: number;
  readonly functionId: number;
  readonly flags?: number;
  readonly transactionId: number;
  readonly sequenceId?: number;
  readonly payload?: Buffer;
}

/** One PDU; by default the only one of its message, sent by a server. */
export function buildPdu(fields: PduFields): Buffer {
  const { version = 1, functionId, flags = 0x4c00, transactionId, sequenceId = 0, payload = Buffer.alloc(0) } = fields;
  const words = [version, functionId, payload.length, flags, transactionId, sequenceId];
  return Buffer.concat([Buffer.from(words.flatMap((word) => [word >> 8, word & 255])), payload]);
}

/** A request as the server has received it. */
export interface Received {
  readonly functionId: number;
  readonly flags: number;
  readonly transactionId: number;
  /** Tag and bytes, in order; the delimiter is tag 0. */
  readonly attributes: readonly (readonly [tag: number, value: Buffer])[];
}

const nameOf = (value: Buffer): string => value.toString().replace(/\0+$/, '');

interface Entity {
  readonly targets: Map<string, { alias: string | undefined; groups: number }>;
  readonly portals: Map<string, readonly [Buffer, Buffer]>;
}

export type Answer = (request: Received, socket: Socket, honest: () => Buffer) => void;

/** Answers as a server should, from `entities`. */
export const honestly: Answer = (_request, socket, honest) => {
  socket.write(honest());
};

/**
 * An iSNS server on loopback that keeps a small database and does what a test tells it, wrong things above all. A name belongs to
 * one entity: who registers it for another is refused with status 3.
 */
export class IsnsServer {
  readonly entities = new Map<string, Entity>();
  readonly received: Received[] = [];
  answer: Answer = honestly;
  /** Status of the next registrations that name this target. */
  readonly refuse = new Map<string, number>();
  /** Told in answers; undefined keeps quiet about it. */
  period: number | undefined = 600;
  /** Whether portal groups are understood. */
  knowsGroups = true;
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      let bytes = Buffer.alloc(0);
      let payload = Buffer.alloc(0);
      socket.on('data', (chunk) => {
        bytes = Buffer.concat([bytes, chunk]);
        while (bytes.length >= 12 && bytes.length >= 12 + bytes.readUInt16BE(4)) {
          const header = bytes.subarray(0, 12);
          payload = Buffer.concat([payload, bytes.subarray(12, 12 + header.readUInt16BE(4))]);
          bytes = bytes.subarray(12 + header.readUInt16BE(4));
          if ((header.readUInt16BE(6) & 0x0800) === 0) continue;
          this.#take(header, payload, socket);
          payload = Buffer.alloc(0);
        }
      });
    });
  }

  static async start(): Promise<IsnsServer> {
    const server = createServer();
    const isns = new IsnsServer(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return isns;
  }

  get port(): number {
    // Listening on TCP, it has an address object.
    return (this.#server.address() as AddressInfo).port;
  }

  open(): number {
    return this.#sockets.size;
  }

  /** Names of an entity's targets, sorted. */
  targetsOf(entity: string): string[] {
    return [...(this.entities.get(entity)?.targets.keys() ?? [])].sort();
  }

  /** As a crash of the server does. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.dropConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(header: Buffer, payload: Buffer, socket: Socket): void {
    const attributes: [number, Buffer][] = [];
    for (let at = 0; at < payload.length;) {
      const length = payload.readUInt32BE(at + 4);
      attributes.push([payload.readUInt32BE(at), payload.subarray(at + 8, at + 8 + length)]);
      at += 8 + length;
    }
    const request: Received = {
      functionId: header.readUInt16BE(2),
      flags: header.readUInt16BE(6),
      transactionId: header.readUInt16BE(8),
      attributes,
    };
    this.received.push(request);
    this.answer(request, socket, () => {
      const [status, answer] = this.#carryOut(request);
      return buildPdu({
        functionId: request.functionId | 0x8000,
        transactionId: request.transactionId,
        payload: Buffer.concat([Buffer.from([0, 0, 0, status]), tlvBytes(answer)]),
      });
    });
  }

  #carryOut(request: Received): [number, Tlv[]] {
    const delimiter = request.attributes.findIndex(([tag]) => tag === 0);
    const operating = request.attributes.slice(delimiter + 1);
    const eid = nameOf(request.attributes[1]?.[1] ?? Buffer.alloc(0));
    const period: Tlv[] = this.period === undefined ? [] : [[6, this.period]];
    const key: Tlv[] = [
      [1, eid],
      [0, Buffer.alloc(0)],
    ];
    switch (request.functionId) {
      case 1:
        return this.#register(request, eid, operating, [...key, [1, eid], ...period]);
      case 2: {
        const entity = this.entities.get(eid);
        if (entity === undefined) return [9, []];
        const portals = [...entity.portals.values()].flatMap(([host, port]): Tlv[] => [
          [16, host],
          [17, port],
        ]);
        return [0, [...key, ...period, ...portals, ...[...entity.targets.keys()].map((name): Tlv => [32, name])]];
      }
      case 4:
        for (const [index, [tag, value]] of operating.entries()) {
          if (tag === 1) this.entities.delete(nameOf(value));
          for (const entity of this.entities.values()) {
            if (tag === 32) entity.targets.delete(nameOf(value));
            if (tag === 16)
              entity.portals.delete(`${value.toString('hex')}${operating[index + 1]?.[1].toString('hex') ?? ''}`);
          }
        }
        return [0, []];
      default:
        return [15, []];
    }
  }

  #register(request: Received, eid: string, operating: Received['attributes'], answer: Tlv[]): [number, Tlv[]] {
    for (const [tag, value] of operating) {
      if (tag !== 32) continue;
      const name = nameOf(value);
      const refusal = this.refuse.get(name);
      if (refusal !== undefined) return [refusal, []];
      for (const [other, { targets }] of this.entities) if (other !== eid && targets.has(name)) return [3, []];
    }
    if (!this.knowsGroups && operating.some(([tag]) => tag === 51)) return [23, []];
    if ((request.flags & 0x1000) !== 0) this.entities.delete(eid);
    const entity: Entity = this.entities.get(eid) ?? { targets: new Map(), portals: new Map() };
    this.entities.set(eid, entity);
    let target = { alias: undefined as string | undefined, groups: 0 };
    for (const [index, [tag, value]] of operating.entries()) {
      const next = operating[index + 1]?.[1] ?? Buffer.alloc(0);
      if (tag === 16) entity.portals.set(`${value.toString('hex')}${next.toString('hex')}`, [value, next]);
      if (tag === 32) {
        target = { alias: undefined, groups: 0 };
        entity.targets.set(nameOf(value), target);
      }
      if (tag === 34) target.alias = nameOf(value);
      if (tag === 49) target.groups += 1;
    }
    return [0, answer];
  }
}

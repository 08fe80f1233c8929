import type { InitiatorPort } from '../logical-unit.ts';
import { SENSE } from '../sense.ts';
import type { Sense } from '../sense.ts';
import type { NamedPort, ReserveOut, ReserveOutAction, ScopeAndType } from './requests.ts';
import { decodeTransportId } from './transport-id.ts';

/** PERSISTENT RESERVE OUT as its CDB has it. */
export interface ReserveOutCommand extends ScopeAndType {
  readonly action: ReserveOutAction;
  readonly parameterBytes: number;
}

/** The basic parameter list (SPC-4 6.16.3); that of REGISTER AND MOVE begins in the same length (6.16.4). */
export const BASIC_LIST_BYTES = 24;
const LENGTH_BYTES = 4;

type Decoded =
  { readonly kind: 'request'; readonly request: ReserveOut } | { readonly kind: 'bad'; readonly sense: Sense };

/** The initiator ports that a TransportID means: one, or all that are known of a name. */
export type ResolvePort = (port: NamedPort) => readonly InitiatorPort[];

/** Decodes CDB and parameter list together (SPC-4 6.16.3, 6.16.4). `list` is what came, which may be less than announced. */
export function decodeReserveOut(
  command: ReserveOutCommand,
  list: Buffer,
  resolve: ResolvePort,
  canPersist: boolean,
): Decoded {
  const { action, scope, type, parameterBytes } = command;
  if (list.length < parameterBytes || parameterBytes < BASIC_LIST_BYTES) return bad(SENSE.parameterListLength);
  const key = list.readBigUInt64BE(0);
  const newKey = list.readBigUInt64BE(8);
  if (action === 'register-and-move') return decodeMove(list, key, newKey, canPersist);
  const flags = list.readUInt8(20);
  const specified = (flags & 0x08) !== 0;
  const allTargetPorts = (flags & 0x04) !== 0;
  const persists = (flags & 0x01) !== 0;
  if (specified && action !== 'register') return badField(20, 3);
  if (!specified && list.length !== BASIC_LIST_BYTES) return bad(SENSE.parameterListLength);
  switch (action) {
    case 'register': {
      if (persists && !canPersist) return badField(20, 0);
      const others = specified ? decodePorts(list, resolve) : undefined;
      if (others === 'bad') return badField(BASIC_LIST_BYTES);
      return { kind: 'request', request: { action, key, newKey, allTargetPorts, persists, others } };
    }
    case 'register-and-ignore':
      if (persists && !canPersist) return badField(20, 0);
      return { kind: 'request', request: { action, newKey, allTargetPorts, persists } };
    case 'reserve':
    case 'release':
      return { kind: 'request', request: { action, key, scope, type } };
    case 'clear':
      return { kind: 'request', request: { action, key } };
    case 'preempt':
    case 'preempt-and-abort':
      return { kind: 'request', request: { action, key, victimKey: newKey, scope, type } };
  }
}

/** The TransportIDs of SPEC_I_PT (SPC-4 6.16.3, table 215). */
function decodePorts(list: Buffer, resolve: ResolvePort): readonly InitiatorPort[] | 'bad' {
  if (list.length < BASIC_LIST_BYTES + LENGTH_BYTES) return 'bad';
  const from = BASIC_LIST_BYTES + LENGTH_BYTES;
  const end = from + list.readUInt32BE(BASIC_LIST_BYTES);
  if (end > list.length) return 'bad';
  const ports: InitiatorPort[] = [];
  for (let at = from; at < end;) {
    const id = decodeTransportId(list.subarray(at, end));
    if (id === undefined) return 'bad';
    const meant = resolve(id.port);
    if (meant.length === 0) return 'bad';
    ports.push(...meant);
    at += id.bytes;
  }
  return ports;
}

/** SPC-4 6.16.4, table 217. */
function decodeMove(list: Buffer, key: bigint, newKey: bigint, canPersist: boolean): Decoded {
  const flags = list.readUInt8(17);
  const persists = (flags & 0x01) !== 0;
  if (persists && !canPersist) return badField(17, 0);
  const length = list.readUInt32BE(20);
  if (BASIC_LIST_BYTES + length > list.length) return bad(SENSE.parameterListLength);
  const id = decodeTransportId(list.subarray(BASIC_LIST_BYTES, BASIC_LIST_BYTES + length));
  if (id?.bytes !== length) return badField(BASIC_LIST_BYTES);
  const unregister = (flags & 0x02) !== 0;
  const relativeTargetPort = list.readUInt16BE(18);
  const move = { action: 'register-and-move', key, newKey, unregister, persists, relativeTargetPort } as const;
  return { kind: 'request', request: { ...move, destination: id.port } };
}

function bad(sense: Sense): Decoded {
  return { kind: 'bad', sense };
}

function badField(byte: number, bit?: number): Decoded {
  const field = bit === undefined ? { inCdb: false, byte } : { inCdb: false, byte, bit };
  return bad({ ...SENSE.invalidFieldInParameters, field });
}

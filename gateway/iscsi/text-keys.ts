import { DEFAULT_MAX_RECV_BYTES, FIRST_BURST_BYTES, MAX_BURST_BYTES } from './constants.ts';
import { parseNumber } from './text.ts';

/** What a login has settled. Starts with the defaults of RFC 7143 13: a key nobody mentions keeps its own. */
export interface SessionParameters {
  readonly headerDigest: boolean;
  readonly dataDigest: boolean;
  /** The initiator's limit for one data segment of ours. */
  readonly initiatorMaxRecvBytes: number;
  readonly initialR2t: boolean;
  readonly immediateData: boolean;
  readonly maxBurstBytes: number;
  readonly firstBurstBytes: number;
}

export const DEFAULT_PARAMETERS: SessionParameters = {
  headerDigest: false,
  dataDigest: false,
  initiatorMaxRecvBytes: DEFAULT_MAX_RECV_BYTES,
  initialR2t: true,
  immediateData: true,
  maxBurstBytes: 256 * 1024,
  firstBurstBytes: 64 * 1024,
};

/** The answer to one offered key: what to say (undefined: nothing, it was a declaration), and what it settles. */
export interface KeyOutcome {
  readonly reply: string | undefined;
  readonly settled: Partial<SessionParameters>;
}

/** RFC 7143 6.2: the values that answer instead of a choice. */
export const NOT_UNDERSTOOD = 'NotUnderstood';
export const IRRELEVANT = 'Irrelevant';
export const REJECTED = 'Reject';

interface Rule {
  /** Whether the key has a meaning in a discovery session (RFC 7143 13: "Irrelevant when SessionType=Discovery"). */
  readonly discovery: boolean;
  /** Whether it may be used after login too (RFC 7143 13: "Use: … FFPO"). */
  readonly fullFeature?: boolean;
  negotiate(offer: string): KeyOutcome;
}

const REFUSED: KeyOutcome = { reply: REJECTED, settled: {} };

const BYTES_24 = 0xff_ffff;

/** The negotiation table: one row per key of RFC 7143 13 and RFC 7144 that is negotiated or declared with a value. */
const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  [
    'HeaderDigest',
    { discovery: true, ...oneOf(['CRC32C', 'None'], (chosen) => ({ headerDigest: chosen === 'CRC32C' })) },
  ],
  ['DataDigest', { discovery: true, ...oneOf(['CRC32C', 'None'], (chosen) => ({ dataDigest: chosen === 'CRC32C' })) }],
  ['MaxConnections', { discovery: false, ...smallest(1, 65_535, 1) }],
  ['InitialR2T', { discovery: false, ...either(false, (initialR2t) => ({ initialR2t })) }],
  ['ImmediateData', { discovery: false, ...both(true, (immediateData) => ({ immediateData })) }],
  [
    'MaxRecvDataSegmentLength',
    {
      discovery: true,
      fullFeature: true,
      ...declared(512, BYTES_24, (initiatorMaxRecvBytes) => ({ initiatorMaxRecvBytes })),
    },
  ],
  [
    'MaxBurstLength',
    { discovery: false, ...smallest(512, BYTES_24, MAX_BURST_BYTES, (maxBurstBytes) => ({ maxBurstBytes })) },
  ],
  [
    'FirstBurstLength',
    { discovery: false, ...smallest(512, BYTES_24, FIRST_BURST_BYTES, (firstBurstBytes) => ({ firstBurstBytes })) },
  ],
  ['DefaultTime2Wait', { discovery: true, ...largest(0, 3600, 0) }],
  ['DefaultTime2Retain', { discovery: true, ...smallest(0, 3600, 0) }],
  ['MaxOutstandingR2T', { discovery: false, ...smallest(1, 65_535, 1) }],
  ['DataPDUInOrder', { discovery: false, ...either(true) }],
  ['DataSequenceInOrder', { discovery: false, ...either(true) }],
  ['ErrorRecoveryLevel', { discovery: true, ...smallest(0, 2, 0) }],
  ['TaskReporting', { discovery: false, ...oneOf(['RFC3720']) }],
  ['iSCSIProtocolLevel', { discovery: false, ...smallest(0, 31, 1) }],
  // Markers are obsolete (RFC 7143 13.25), but older initiators still decline them.
  ['IFMarker', { discovery: true, ...both(false) }],
  ['OFMarker', { discovery: true, ...both(false) }],
]);

/** The first offered value that is supported. */
function oneOf(supported: readonly string[], settle: (chosen: string) => Partial<SessionParameters> = settleNothing) {
  return {
    negotiate(offer: string): KeyOutcome {
      const chosen = offer.split(',').find((value) => supported.includes(value));
      return chosen === undefined ? REFUSED : { reply: chosen, settled: settle(chosen) };
    },
  };
}

/** Result function "minimum". */
function smallest(
  lowest: number,
  highest: number,
  ours: number,
  settle: (value: number) => Partial<SessionParameters> = settleNothing,
) {
  return numerical(lowest, highest, (offer) => Math.min(offer, ours), settle);
}

/** Result function "maximum". */
function largest(lowest: number, highest: number, ours: number) {
  return numerical(lowest, highest, (offer) => Math.max(offer, ours), settleNothing);
}

function numerical(
  lowest: number,
  highest: number,
  choose: (offer: number) => number,
  settle: (value: number) => Partial<SessionParameters>,
) {
  return {
    negotiate(offer: string): KeyOutcome {
      const number = parseNumber(offer, lowest, highest);
      if (number === undefined) return REFUSED;
      const value = choose(number);
      return { reply: String(value), settled: settle(value) };
    },
  };
}

/** Each side says its own; nothing is answered. */
function declared(lowest: number, highest: number, settle: (value: number) => Partial<SessionParameters>) {
  return {
    negotiate(offer: string): KeyOutcome {
      const value = parseNumber(offer, lowest, highest);
      return value === undefined ? REFUSED : { reply: undefined, settled: settle(value) };
    },
  };
}

/** Result function OR. */
function either(ours: boolean, settle: (value: boolean) => Partial<SessionParameters> = settleNothing) {
  return yesOrNo((offer) => offer || ours, settle);
}

/** Result function AND. */
function both(ours: boolean, settle: (value: boolean) => Partial<SessionParameters> = settleNothing) {
  return yesOrNo((offer) => offer && ours, settle);
}

function yesOrNo(choose: (offer: boolean) => boolean, settle: (value: boolean) => Partial<SessionParameters>) {
  return {
    negotiate(offer: string): KeyOutcome {
      if (offer !== 'Yes' && offer !== 'No') return REFUSED;
      const value = choose(offer === 'Yes');
      return { reply: value ? 'Yes' : 'No', settled: settle(value) };
    },
  };
}

function settleNothing(): Partial<SessionParameters> {
  return {};
}

/** Where a key is offered. */
export type NegotiationPhase = 'login' | 'discovery-login' | 'full-feature';

/** Answers one offered operational key. Keys nobody knows, X- keys among them, are "NotUnderstood" (RFC 7143 6.2). */
export function negotiateKey(key: string, offer: string, phase: NegotiationPhase): KeyOutcome {
  const rule = RULES.get(key);
  if (rule === undefined) return { reply: NOT_UNDERSTOOD, settled: {} };
  if (phase === 'full-feature' && rule.fullFeature !== true) return REFUSED;
  if (phase === 'discovery-login' && !rule.discovery) return { reply: IRRELEVANT, settled: {} };
  return rule.negotiate(offer);
}

/** FirstBurstLength must not exceed MaxBurstLength (RFC 7143 13.14); where it does, the smaller holds. */
export function reconcile(parameters: SessionParameters): SessionParameters {
  return { ...parameters, firstBurstBytes: Math.min(parameters.firstBurstBytes, parameters.maxBurstBytes) };
}

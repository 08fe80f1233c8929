import { FarshoreError } from '../base/errors.ts';

/** None | CRC32C, or a preference list of both. */
export type DigestOffer = 'None' | 'CRC32C' | 'CRC32C,None' | 'None,CRC32C';

/** What we propose for the operational keys of RFC 7143 section 13. */
export interface NegotiationOffer {
  readonly headerDigest: DigestOffer;
  readonly dataDigest: DigestOffer;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  readonly maxBurstBytes: number;
  readonly firstBurstBytes: number;
  /** What the target may send us in one PDU. */
  readonly maxRecvDataSegmentBytes: number;
  readonly maxOutstandingR2T: number;
}

/** The values open-iscsi uses by default, which every target is used to. */
export const DEFAULT_OFFER: NegotiationOffer = {
  headerDigest: 'None',
  dataDigest: 'None',
  initialR2T: false,
  immediateData: true,
  maxBurstBytes: 16776192,
  firstBurstBytes: 262144,
  maxRecvDataSegmentBytes: 262144,
  maxOutstandingR2T: 1,
};

/** What holds on the connection after login. */
export interface Negotiated {
  readonly headerDigest: boolean;
  readonly dataDigest: boolean;
  readonly initialR2T: boolean;
  readonly immediateData: boolean;
  readonly maxBurstBytes: number;
  readonly firstBurstBytes: number;
  /** What the target takes in one PDU. */
  readonly maxSendDataSegmentBytes: number;
}

export type TextKeys = ReadonlyMap<string, string>;

/** `key=value` pairs, each ended by a zero byte (RFC 7143 section 6.1). */
export function encodeKeys(pairs: readonly (readonly [key: string, value: string])[]): Buffer {
  return Buffer.from(pairs.map(([key, value]) => `${key}=${value}\0`).join(''), 'utf8');
}

/** In order and with repetitions, as SendTargets answers need. Throws `damaged` for what has no '='. */
export function decodeKeyList(text: Buffer): (readonly [key: string, value: string])[] {
  return text
    .toString('utf8')
    .split('\0')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const equals = pair.indexOf('=');
      if (equals < 1) throw new FarshoreError('damaged', `the target sent the text "${pair}", which is no key=value`);
      return [pair.slice(0, equals), pair.slice(equals + 1)] as const;
    });
}

export function operationalKeys(offer: NegotiationOffer, discovery: boolean): (readonly [string, string])[] {
  const always: (readonly [string, string])[] = [
    ['HeaderDigest', offer.headerDigest],
    ['DataDigest', offer.dataDigest],
    ['MaxRecvDataSegmentLength', String(offer.maxRecvDataSegmentBytes)],
    ['DefaultTime2Wait', '2'],
    ['DefaultTime2Retain', '0'],
    ['ErrorRecoveryLevel', '0'],
  ];
  if (discovery) return always;
  return [
    ...always,
    ['InitialR2T', yesNo(offer.initialR2T)],
    ['ImmediateData', yesNo(offer.immediateData)],
    ['MaxBurstLength', String(offer.maxBurstBytes)],
    ['FirstBurstLength', String(offer.firstBurstBytes)],
    ['MaxOutstandingR2T', String(offer.maxOutstandingR2T)],
    ['MaxConnections', '1'],
    ['DataPDUInOrder', 'Yes'],
    ['DataSequenceInOrder', 'Yes'],
  ];
}

/**
 * The outcome for an offer and the target's answers. A key the target left out has its default (RFC 7143 section 13);
 * an answer we did not leave open is `damaged`.
 */
export function settle(offer: NegotiationOffer, answers: TextKeys): Negotiated {
  const inOrder = answers.get('DataPDUInOrder') !== 'No' && answers.get('DataSequenceInOrder') !== 'No';
  if (!inOrder) throw illegalAnswer('DataPDUInOrder', 'No');
  const maxBurstBytes = Math.min(offer.maxBurstBytes, numberAnswer(answers, 'MaxBurstLength', 262144));
  return {
    headerDigest: digestAnswer(answers, 'HeaderDigest', offer.headerDigest),
    dataDigest: digestAnswer(answers, 'DataDigest', offer.dataDigest),
    initialR2T: offer.initialR2T || booleanAnswer(answers, 'InitialR2T', true),
    immediateData: offer.immediateData && booleanAnswer(answers, 'ImmediateData', true),
    maxBurstBytes,
    firstBurstBytes: Math.min(offer.firstBurstBytes, maxBurstBytes, numberAnswer(answers, 'FirstBurstLength', 65536)),
    maxSendDataSegmentBytes: numberAnswer(answers, 'MaxRecvDataSegmentLength', 8192),
  };
}

const SMALLEST_LENGTH = 512;
const LARGEST_LENGTH = 0xffffff;

function numberAnswer(answers: TextKeys, key: string, fallback: number): number {
  const answer = answers.get(key);
  if (answer === undefined || answer === 'Irrelevant') return fallback;
  const value = /^(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(answer) ? Number(answer) : NaN;
  if (!(value >= SMALLEST_LENGTH && value <= LARGEST_LENGTH)) throw illegalAnswer(key, answer);
  return value;
}

function booleanAnswer(answers: TextKeys, key: string, fallback: boolean): boolean {
  const answer = answers.get(key);
  switch (answer) {
    case undefined:
    case 'Irrelevant':
      return fallback;
    case 'Yes':
      return true;
    case 'No':
      return false;
    default:
      throw illegalAnswer(key, answer);
  }
}

/** Whether CRC32C is used. A target that answers what was not offered is refused: we would misread every PDU. */
function digestAnswer(answers: TextKeys, key: string, offer: DigestOffer): boolean {
  const answer = answers.get(key) ?? 'None';
  if (!offer.split(',').includes(answer)) throw illegalAnswer(key, answer);
  return answer === 'CRC32C';
}

function illegalAnswer(key: string, answer: string): FarshoreError {
  return new FarshoreError('damaged', `the target answered ${key}=${answer}, which was not offered`);
}

function yesNo(value: boolean): string {
  return value ? 'Yes' : 'No';
}

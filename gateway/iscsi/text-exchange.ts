import { DEFAULT_MAX_RECV_BYTES, MAX_TEXT_BYTES, NO_TAG, REJECT } from './constants.ts';
import { normalizeName } from './names.ts';
import type { Outbox } from './outbox.ts';
import type { TextRequest } from './requests.ts';
import { formatText, parseText } from './text.ts';
import type { KeyValue } from './text.ts';
import { NOT_UNDERSTOOD, REJECTED, negotiateKey } from './text-keys.ts';

export interface TextDeps {
  readonly discovery: boolean;
  /** The target of a normal session. */
  readonly ownTarget: string | undefined;
  sendTargets(request: string): KeyValue[];
  setMaxRecvBytes(bytes: number): void;
}

const NOTHING = Buffer.alloc(0);
const LAST_TAG = 0xffff_fff0;

/** Text requests after login (RFC 7143 11.10, 11.11): one exchange at a time, requests and answers in any number of PDUs. */
export class TextExchange {
  readonly #outbox: Outbox;
  readonly #deps: TextDeps;
  /** The request so far: room that grows by doubling, since it may come byte by byte, and how much of it is used. */
  #request: Buffer = NOTHING;
  #requestBytes = 0;
  /** What is left of an answer that did not fit one PDU, and the tag the initiator asks for more under. */
  #answer: { readonly tag: number; readonly rest: Buffer } | undefined;
  #nextTag = 1;

  constructor(outbox: Outbox, deps: TextDeps) {
    this.#outbox = outbox;
    this.#deps = deps;
  }

  receive(request: TextRequest, header: Buffer, data: Buffer): void {
    if (request.targetTransferTag === NO_TAG) {
      // A new exchange; what was left of an older one is forgotten.
      this.#reset();
    } else if (this.#answer !== undefined && this.#answer.tag === request.targetTransferTag && data.length === 0) {
      this.#send(request, this.#answer.rest);
      return;
    }
    if (this.#requestBytes + data.length > MAX_TEXT_BYTES || (request.final && request.continued)) {
      this.#reset();
      this.#outbox.reject(REJECT.protocolError, header);
      return;
    }
    this.#gather(data);
    if (request.continued) {
      this.#askForMore(request);
      return;
    }
    const pairs = parseText(this.#request.subarray(0, this.#requestBytes));
    this.#reset();
    if (pairs === undefined) {
      this.#outbox.reject(REJECT.protocolError, header);
      return;
    }
    this.#send(request, formatText(this.#replies(pairs)));
  }

  /** Copies, since the chunk the data lies in may be large. */
  #gather(data: Buffer): void {
    const bytes = this.#requestBytes + data.length;
    if (bytes > this.#request.length) {
      const roomier = Buffer.allocUnsafeSlow(Math.min(Math.max(2 * this.#request.length, bytes), MAX_TEXT_BYTES));
      this.#request.copy(roomier, 0, 0, this.#requestBytes);
      this.#request = roomier;
    }
    data.copy(this.#request, this.#requestBytes);
    this.#requestBytes = bytes;
  }

  #replies(pairs: readonly KeyValue[]): KeyValue[] {
    const replies: KeyValue[] = [];
    for (const [key, value] of pairs) {
      if (key === 'SendTargets') {
        replies.push(...this.#sendTargets(value));
        continue;
      }
      const outcome = negotiateKey(key, value, 'full-feature');
      if (outcome.settled.initiatorMaxRecvBytes !== undefined)
        this.#deps.setMaxRecvBytes(outcome.settled.initiatorMaxRecvBytes);
      if (outcome.reply !== undefined && value !== REJECTED && value !== NOT_UNDERSTOOD)
        replies.push([key, outcome.reply]);
    }
    return replies;
  }

  /**
   * RFC 7143 appendix C: `All`, a target's name, or nothing, which means the session's own target; anything else is refused.
   * Other targets are for discovery sessions only, for which credentials of their own may be asked: in any other one there
   * are none, and all there are is the session's.
   */
  #sendTargets(value: string): KeyValue[] {
    const { discovery, ownTarget } = this.#deps;
    if (value === 'All' && discovery) return this.#deps.sendTargets('All');
    const name = value === '' || value === 'All' ? ownTarget : normalizeName(value);
    if (name === undefined) return [['SendTargets', REJECTED]];
    return discovery || name === ownTarget ? this.#deps.sendTargets(name) : [];
  }

  #askForMore(request: TextRequest): void {
    const response = {
      final: false,
      continued: false,
      initiatorTaskTag: request.initiatorTaskTag,
      targetTransferTag: this.#takeTag(),
      dataBytes: 0,
    };
    this.#outbox.text(response, NOTHING);
  }

  /** As much as the initiator takes in one PDU; the rest when it asks for it. */
  #send(request: TextRequest, text: Buffer): void {
    const limit = Math.min(this.#outbox.maxDataBytes, DEFAULT_MAX_RECV_BYTES);
    const part = text.subarray(0, limit);
    const complete = part.length === text.length;
    const targetTransferTag = complete ? NO_TAG : this.#takeTag();
    this.#answer = complete ? undefined : { tag: targetTransferTag, rest: text.subarray(limit) };
    const response = {
      final: complete && request.final,
      continued: !complete,
      initiatorTaskTag: request.initiatorTaskTag,
      targetTransferTag: complete && !request.final ? this.#takeTag() : targetTransferTag,
      dataBytes: part.length,
    };
    this.#outbox.text(response, part);
  }

  #takeTag(): number {
    const tag = this.#nextTag;
    this.#nextTag = tag >= LAST_TAG ? 1 : tag + 1;
    return tag;
  }

  #reset(): void {
    this.#request = NOTHING;
    this.#requestBytes = 0;
    this.#answer = undefined;
  }
}

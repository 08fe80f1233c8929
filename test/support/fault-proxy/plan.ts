import { z } from 'zod';

const service = z.enum(['s3', 'dynamodb']);
export type Service = z.infer<typeof service>;

/** An error document of the service, in its own form. */
const refusal = z.strictObject({ status: z.number().int(), code: z.string(), message: z.string().optional() });

/**
 * What becomes of one request, as two answers that go together in most ways: does it get there, and what is heard of it?
 * A lost response is `{ deliver: 'once', answer: 'reset' }`, a refusal `{ deliver: 'never', answer: { status: 503, code: 'SlowDown' } }`.
 */
const fault = z.strictObject({
  /**
   * `never`; `half` of its body, then a reset; `once`; `twice`, the second when the first has been answered (a proxy that repeats); `late`,
   * `lateMs` after its sender has been told something else; `corrupt`, with a bit of its body turned over.
   */
  deliver: z.enum(['never', 'half', 'once', 'twice', 'late', 'corrupt']),
  /**
   * `true`, the service's own (of `twice` the second); `reset` of the connection; `half` of the body, then a reset; `corrupt`, with a bit of
   * the body turned over; `silence` until the sender gives up; `portal`, status 200 and a page of somebody else's.
   */
  answer: z.union([z.enum(['true', 'reset', 'half', 'corrupt', 'silence', 'portal']), refusal]),
  lateMs: z.number().min(0).optional(),
});
export type Fault = z.infer<typeof fault>;

/** Which requests a fault happens to. */
const rule = z.strictObject({
  fault,
  service: service.optional(),
  /** Names like PutObject, GetItem; absent: all. */
  operations: z.array(z.string()).optional(),
  /** Only requests signed with one of these access keys. */
  accessKeys: z.array(z.string()).optional(),
  /** Of those that match, by chance; absent: all. */
  share: z.number().min(0).max(1).optional(),
  /** The first so many that match are let through. */
  after: z.number().int().min(0).optional(),
  /** It happens at most so often. */
  times: z.number().int().min(1).optional(),
});
export type FaultRule = z.infer<typeof rule>;

/** The weather between a gateway and its cloud. Everything absent: a perfect line. */
export const FAULT_PLAN = z.strictObject({
  /** Of every chance that is taken; requests in the same order have the same fate. */
  seed: z.union([z.number(), z.string()]).optional(),
  /** From a request's first byte to its answer's, without the service's own time; half of it each way. */
  roundTripMs: z.number().min(0).optional(),
  /** Up to so much is added to a round trip, half of it each way. */
  jitterMs: z.number().min(0).optional(),
  /** Of all connections together, to the cloud and from it. */
  upBytesPerSecond: z.number().positive().optional(),
  downBytesPerSecond: z.number().positive().optional(),
  /** The clocks of the services are so much ahead of ours (or behind: negative). */
  clockSkewMs: z.number().optional(),
  /** DynamoDB's write units per second that one partition key has; the rest is throttled. */
  writeUnitsPerSecond: z.number().positive().optional(),
  /** The first that applies to a request counts. */
  rules: z.array(rule).optional(),
});
export type FaultPlan = z.infer<typeof FAULT_PLAN>;

/** An answer of the service's own needs a request that got there. */
export function checkPlan(plan: FaultPlan): FaultPlan {
  for (const {
    fault: { deliver, answer },
  } of plan.rules ?? []) {
    const isOwn = answer === 'true' || answer === 'half' || answer === 'corrupt';
    const arrives = deliver === 'once' || deliver === 'twice' || deliver === 'corrupt';
    if (isOwn && !arrives) throw new Error(`a request that is delivered '${deliver}' has no answer to be '${answer}'`);
  }
  return plan;
}

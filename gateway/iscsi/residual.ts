import type { ByteCount } from '../base/units.ts';
import { NO_TAG } from './constants.ts';
import type { ScsiCommandRequest } from './requests.ts';
import type { Residual } from './responses.ts';
import { NO_RESIDUAL } from './responses.ts';

/**
 * How much the initiator takes. When it announces both directions, the length is that of the write, and that of the read
 * is in an additional header segment (RFC 7143 11.3.5), which no command of ours needs.
 */
export function expectedInBytes(request: ScsiCommandRequest): ByteCount {
  return request.read && !request.write ? request.expectedBytes : 0;
}

/** What is left over, or missing, of what was announced (RFC 7143 11.4.5). */
export function residual(moved: ByteCount, expected: ByteCount): Residual {
  if (moved === expected) return NO_RESIDUAL;
  return moved > expected
    ? { kind: 'overflow', bytes: Math.min(moved - expected, NO_TAG) }
    : { kind: 'underflow', bytes: expected - moved };
}

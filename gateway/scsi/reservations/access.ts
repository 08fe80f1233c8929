import type { UnitCommand } from '../traits.ts';

/**
 * What a command needs of a logical unit that others have reserved, in the columns of SPC-4 table 65 and SBC-3
 * ([write exclusive, exclusive access, registered under any RR type, write exclusive RR, exclusive access RR], where RR
 * is registrants only or all registrants):
 *
 * - `always`   allowed, allowed, allowed, allowed, allowed
 * - `reading`  allowed, conflict, allowed, allowed, conflict
 * - `changing` conflict, conflict, allowed, conflict, conflict
 * - `itself`   decides for itself (SPC-4 table 66 and 5.13.3)
 */
export type ReservedAccess = 'always' | 'reading' | 'changing' | 'itself';

/** Commands whose access depends on more than their name. */
type Divided = 'start-stop' | 'prevent-allow';

const ACCESS: Readonly<Record<Exclude<UnitCommand['kind'], Divided>, ReservedAccess>> = {
  // SPC-4 table 65
  'extended-copy': 'changing',
  inquiry: 'always',
  'log-sense': 'always',
  'mode-select': 'changing',
  'mode-sense': 'reading',
  'persistent-reserve-in': 'itself',
  'persistent-reserve-out': 'itself',
  'copy-results': 'always',
  reserve: 'itself',
  release: 'itself',
  'report-opcodes': 'reading',
  'report-task-management': 'reading',
  'report-target-port-groups': 'always',
  'request-sense': 'always',
  'test-unit-ready': 'always',
  // SBC-3
  'compare-and-write': 'changing',
  'get-lba-status': 'reading',
  'or-write': 'changing',
  prefetch: 'reading',
  read: 'reading',
  'read-capacity-10': 'always',
  'read-capacity-16': 'always',
  'read-defect-data': 'reading',
  sanitize: 'changing',
  'synchronize-cache': 'changing',
  unmap: 'changing',
  verify: 'reading',
  write: 'changing',
  'write-and-verify': 'changing',
  'write-atomic': 'changing',
  'write-same': 'changing',
};

/** The row of the tables a command is in. */
export function reservedAccess(command: UnitCommand): ReservedAccess {
  switch (command.kind) {
    case 'start-stop':
      return command.start && command.powerCondition === 0 ? 'always' : 'changing';
    case 'prevent-allow':
      return command.prevent ? 'changing' : 'always';
    default:
      return ACCESS[command.kind];
  }
}

/**
 * Whether a command passes a RESERVE (6) of another initiator: what SPC-2 table 10 and SBC-2 table 3 let through, and
 * REPORT TARGET PORT GROUPS, which is younger: it asks about the path and not about the unit.
 */
export function passesLegacyReservation(command: UnitCommand): boolean {
  switch (command.kind) {
    case 'inquiry':
    case 'log-sense':
    case 'read-capacity-10':
    case 'read-capacity-16':
    case 'report-target-port-groups':
    case 'request-sense':
      return true;
    case 'persistent-reserve-in':
    case 'persistent-reserve-out':
    case 'reserve':
    case 'release':
      return true; // they decide for themselves
    case 'prevent-allow':
      return !command.prevent;
    case 'start-stop':
      return reservedAccess(command) === 'always';
    default:
      return false;
  }
}

import type { AccessReport } from '../access/report.ts';
import type { InitiatorReport, TargetReport } from '../access/access-admin.ts';
import type { MapReport, Results } from './gateway-api.ts';
import { formatTable, formatTime } from './output.ts';

/** What people read of access control; `--json` prints the values themselves. Secrets are in neither. */

export function target(report: TargetReport): string {
  return `${report.name}: map volumes there with: farshore map VOLUME --initiator NAME --target ${report.name}`;
}

export function targets(list: readonly TargetReport[]): string {
  if (list.length === 0) return 'no targets yet; every volume brings one';
  return formatTable(
    ['target', 'made', 'volumes', 'initiators'],
    list.map((each) => [
      each.name,
      each.volume === undefined ? granted(each.since, each.by) : `with volume ${each.volume}`,
      each.volumes.join(', ') || '-',
      String(each.initiators),
    ]),
  );
}

export function initiator(report: InitiatorReport): string {
  return initiators([report]);
}

export function initiators(list: readonly InitiatorReport[]): string {
  if (list.length === 0) return 'no initiators yet; make one known with: farshore initiator add NAME';
  return formatTable(
    ['initiator', 'authentication', 'volumes', 'known'],
    list.map((each) => [each.name, credentials(each), each.volumes.join(', ') || '-', granted(each.since, each.by)]),
  );
}

function credentials({ chap }: InitiatorReport): string {
  if (chap.length === 0) return 'none';
  return chap
    .map((each) => {
      const where = each.target === undefined ? '' : ` at ${each.target}`;
      const alone = each.volume === undefined ? '' : ` (of volume ${each.volume} alone)`;
      return `CHAP${where}: ${userOf(each)}${alone}`;
    })
    .join('; ');
}

function userOf(chap: Pick<InitiatorReport['chap'][number], 'user' | 'mutualUser' | 'readable'>): string {
  const mutual = chap.mutualUser === undefined ? '' : `, mutual ${chap.mutualUser}`;
  return `user ${chap.user}${mutual}${chap.readable ? '' : ' (its key is not here)'}`;
}

export function mapped(map: MapReport): string {
  const from = map.addresses.length === 0 ? '' : ` from ${map.addresses.join(', ')}`;
  return `${map.volume} is LUN ${map.lun} of ${map.target} for ${map.initiator}${from}, ${map.readOnly ? 'read-only' : 'read-write'}`;
}

export function unmapped({ maps }: Results['unmap']): string {
  return maps
    .map((map) => `${map.volume} is not LUN ${map.lun} of ${map.target} for ${map.initiator} any more`)
    .join('\n');
}

export function sessions(list: Results['session-list']): string {
  if (list.length === 0) return 'nobody is logged in';
  return formatTable(
    ['session', 'initiator', 'address', 'target', 'volumes', 'authentication', 'since (UTC)', 'tasks'],
    list.map((each) => [
      String(each.id),
      each.initiator,
      each.peer,
      each.target ?? '(discovery)',
      each.volumes.join(', ') || '-',
      each.authentication,
      formatTime(each.since),
      String(each.outstandingTasks),
    ]),
  );
}

export const discovery =
  (isCleared: boolean) =>
  (result: Results['discovery-chap']): string =>
    `discovery by ${result.initiator ?? 'every initiator'} ${isCleared ? 'needs no credential of its own any more' : 'needs this credential from now on'}`;

export function report(access: AccessReport): string {
  const { rights, uses, refusals, discovery: credentials, elsewhere, logReaches, notWritten, unreadable } = access;
  const right = formatTable(
    ['volume', 'initiator', 'target', 'LUN', 'access', 'from', 'authentication', 'granted'],
    rights.map((each) => [
      each.volume,
      each.initiator ?? 'every initiator',
      each.target,
      String(each.lun),
      each.suspended === undefined ? each.access : `none: ${each.suspended}`,
      each.addresses.join(', ') || 'anywhere',
      each.authentication,
      each.since === undefined ? 'open until the first map' : granted(each.since, each.by),
    ]),
  );
  const use = formatTable(
    ['volume', 'initiator', 'address', 'target', 'logins', 'first (UTC)', 'last (UTC)'],
    uses.map((each) => [
      each.former ? `${each.volume} (a former one${each.id === undefined ? '' : `, ${each.id}`})` : each.volume,
      each.initiator,
      each.address,
      each.target,
      String(each.logins),
      shortTime(each.first),
      shortTime(each.last),
    ]),
  );
  const refused = formatTable(
    ['initiator', 'address', 'target', 'times', 'last (UTC)', 'reason'],
    refusals.map((each) => [
      each.initiator,
      each.address,
      each.target,
      String(each.count),
      shortTime(each.last),
      each.reason,
    ]),
  );
  const proofs = formatTable(
    ['initiator', 'authentication', 'granted'],
    credentials.map((each) => [
      each.initiator ?? 'every initiator without its own',
      `CHAP${each.volume === undefined ? '' : ` with volume ${each.volume}`}: ${userOf(each)}`,
      granted(each.since, each.by),
    ]),
  );
  const unwritten = Object.entries(notWritten).map(([event, count]) => `${count} × ${event}`);
  return [
    ...elsewhere.map((name) => `${name}: another gateway serves it; what is shown here may be old\n`),
    'who can',
    rights.length === 0 ? 'nobody' : right,
    '',
    'what discovery takes',
    credentials.length === 0 ? 'nothing: whoever reaches a portal may ask, and is told only what it may use' : proofs,
    '',
    `who did (from the audit log${logReaches.logins === undefined ? '' : `, whose logins reach back to ${shortTime(logReaches.logins)}`})`,
    uses.length === 0 ? 'nobody' : use,
    ...(refusals.length === 0 ? [] : ['', `who was refused${reach(logReaches.refusals)}`, refused]),
    ...(unwritten.length === 0 ? [] : ['', `not written, for there were too many: ${unwritten.join(', ')}`]),
    ...(unreadable === 0 ? [] : ['', `${unreadable} lines of the audit log cannot be read`]),
  ].join('\n');
}

function reach(since: string | undefined): string {
  return since === undefined ? '' : ` (refusals reach back to ${shortTime(since)})`;
}

function granted(since: number | undefined, by: string | undefined): string {
  return since === undefined ? '-' : `${formatTime(since)} by ${by ?? 'unknown'}`;
}

function shortTime(iso: string): string {
  return iso.slice(0, 19).replace('T', ' ');
}

/** What hangs is told by LUN: there may be many commands. */
export function killed({ id, unsettled }: Results['session-kill']): string {
  if (unsettled.length === 0) return `session ${id} is ended`;
  const counts = new Map<string, number>();
  for (const { lun, command } of unsettled) {
    const what = `${command} at LUN ${lun}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const hanging = [...counts].map(([what, count]) => `${count} × ${what}`).join(', ');
  return `session ${id} is ended, and its initiator is cut off; but ${hanging} still hangs in the gateway and may land yet. farshore status shows what holds it up`;
}

export function reservations(report: Results['reservation-list']): string {
  const { readable, persists, type, registrations, reservedBy } = report;
  const rows = registrations.map((each) => [
    each.initiator,
    each.isid,
    each.target ?? 'every target',
    each.key,
    each.holds ? 'holds' : '',
  ]);
  return [
    ...(readable ? [] : ['what was kept cannot be understood, and bars everybody from the medium']),
    ...(reservedBy === undefined ? [] : [`reserved (RESERVE) by ${reservedBy.initiator} ${reservedBy.isid}`]),
    type === undefined ? 'no persistent reservation' : `persistent reservation: ${type}`,
    ...(rows.length === 0 ? [] : [formatTable(['initiator', 'isid', 'target', 'key', ''], rows)]),
    ...(persists ? ['kept over a power loss'] : []),
  ].join('\n');
}

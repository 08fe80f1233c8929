import type { AuditLog } from '../access/audit-log.ts';
import { seriesOf } from '../access/audit-allowance.ts';
import { ALL_SERIES } from '../access/audit-files.ts';
import type { Series } from '../access/audit-files.ts';
import type { BoundedTeller } from '../replication/told-bounded.ts';
import { heard, type Missed, type Unheard } from '../replication/told-bounded.ts';
import type { FromThread } from './messages.ts';

/**
 * The audit log as an I/O thread has it: entries go to the main thread, which has the one that is written. While that is slow to take them up, entries
 * are counted by event, as the log itself does with what it cannot write; the counts are entered there.
 */
export function auditByMessages(teller: BoundedTeller): Pick<AuditLog, 'session' | 'note'> {
  return {
    session: (event, detail) => {
      const told: FromThread['session'] = { event, detail };
      teller.tell('audit', 'session', told, countedAs(seriesOf(event), event.kind));
    },
    note: (entry, series) => {
      const told: FromThread['note'] = { entry, series };
      teller.tell('audit', 'note', told, countedAs(series ?? 'changes', entry.event));
    },
  };
}

/** The main thread's end: enters what was told; false when the event is another one. */
export function enterTold(
  audit: Pick<AuditLog, 'session' | 'note' | 'missed'>,
  unheard: Unheard,
  name: string,
  detail: unknown,
): boolean {
  switch (name) {
    case 'session': {
      const { event, detail: more } = detail as FromThread['session'];
      audit.session(event, more);
      break;
    }
    case 'note': {
      const { entry, series } = detail as FromThread['note'];
      audit.note(entry, series);
      break;
    }
    case 'missed-audit':
      for (const [counted, count] of Object.entries(detail as Missed)) {
        const series = ALL_SERIES.find((each) => counted.startsWith(`${each} `));
        if (series !== undefined) audit.missed(series, counted.slice(series.length + 1), count);
      }
      break;
    default:
      return false;
  }
  heard(unheard, 'audit');
  return true;
}

function countedAs(series: Series, event: string): string {
  return `${series} ${event}`;
}

import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type BoundedTeller, heard, type Missed, type Unheard } from './told-bounded.ts';

type LogLevel = 'debug' | 'info' | 'warn' | 'error';

interface LogLine {
  readonly level: LogLevel;
  readonly fields: object;
  readonly message: string;
}

/** A log whose lines are written by the other end of the port, so that the process has one log. Lines that find no room there are counted. */
export function portLog(teller: BoundedTeller, fields: object = {}): Log {
  const write = (level: LogLevel) => (more: object, message: string) => {
    const line: LogLine = { level, fields: plain({ ...fields, ...more }), message };
    teller.tell('log', 'log', line, level);
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (more) => portLog(teller, { ...fields, ...more }),
  };
}

/** The other end: writes what `portLog` sent; false when the event is another one. */
export function writeTold(log: Log, unheard: Unheard, name: string, detail: unknown): boolean {
  if (name === 'log') {
    heard(unheard, 'log');
    const { level, fields, message } = detail as LogLine; // as portLog sends it
    log[level](fields, message);
    return true;
  }
  if (name !== 'missed-log') return false;
  heard(unheard, 'log');
  log.warn(
    { lines: detail as Missed },
    'lines of this log were left out, because they came faster than they could be written',
  );
  return true;
}

/** Errors as plain data: a FarshoreError would lose its kind on the way. */
function plain(fields: object): object {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]: [string, unknown]) => {
      if (!(value instanceof Error)) return [key, value];
      const kind = value instanceof FarshoreError ? value.kind : undefined;
      // What an operating failure says is enough for who reads it; where it arose is for bugs.
      const stack = kind === undefined || kind === 'bug' ? { stack: value.stack } : {};
      return [key, { type: value.name, kind, message: value.message, ...stack }];
    }),
  );
}

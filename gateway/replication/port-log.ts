import { FarshoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { RpcPort } from './rpc.ts';
import { sendEvent } from './rpc.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LogLine {
  readonly level: LogLevel;
  readonly fields: object;
  readonly message: string;
}

/** A log whose lines are written by the other end of the port, so that the process has one log. */
export function portLog(port: RpcPort, fields: object = {}): Log {
  const write = (level: LogLevel) => (more: object, message: string) => {
    const line: LogLine = { level, fields: plain({ ...fields, ...more }), message };
    sendEvent(port, 'log', 0, line);
  };
  return {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (more) => portLog(port, { ...fields, ...more }),
  };
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

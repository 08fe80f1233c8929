import { FarshoreError } from '../../gateway/base/errors.ts';
import type { Log } from '../../gateway/base/log.ts';

/** One JSON object a line on stdout, as CloudWatch Logs Insights reads it. */
export function jsonLog(fields: object = {}): Log {
  const write = (level: string) => (more: object, message: string) => {
    process.stdout.write(`${JSON.stringify({ level, message, ...fields, ...more }, plainErrors)}\n`);
  };
  return {
    debug: () => undefined,
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (more) => jsonLog({ ...fields, ...more }),
  };
}

function plainErrors(_: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const kind = value instanceof FarshoreError ? value.kind : undefined;
  return { type: value.name, kind, message: value.message, stack: value.stack };
}

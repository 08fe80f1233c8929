import { SingleBar } from 'cli-progress';
import { formatSize } from '../base/size.ts';
import { printable, printableJson } from '../base/text.ts';
import type { Progress } from './gateway-api.ts';

/** A result as JSON, in visible characters: what is in it may have been chosen by anybody who reaches a portal. */
export function toJson(result: unknown): string {
  return printableJson(JSON.stringify(result, null, 2));
}

/** The same value with every text in it in one line of visible characters, so that none can pass for another line or colour the terminal. */
export function inVisibleText<T>(value: T): T {
  if (typeof value === 'string') return printable(value) as T; // a string again
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((each: unknown) => inVisibleText(each)) as T; // element by element
  return Object.fromEntries(
    Object.entries(value).map(([key, each]: [string, unknown]) => [printable(key), inVisibleText(each)]),
  ) as T; // key by key: results are plain objects
}

/** Columns padded to their widest cell; right-aligned where every cell of the column is a number or size. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const numeric = headings.map(
    (_, column) => rows.length > 0 && rows.every((row) => /^[\d.,]+( [A-Za-z]+)?$|^$|^-$/.test(row[column] ?? '')),
  );
  const format = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        numeric[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [format(headings), ...rows.map(format)].join('\n');
}

/** `2026-11-22 16:05:09`, UTC. */
export function formatTime(wallMillis: number): string {
  return new Date(wallMillis).toISOString().slice(0, 19).replace('T', ' ');
}

/** Shows progress on a terminal (stderr) as a bar; elsewhere nothing, so that scripts get only results. */
export function progressBar(): { show: (progress: Progress) => void; stop: () => void } {
  if (!process.stderr.isTTY) return { show: () => undefined, stop: () => undefined };
  let bar: SingleBar | undefined;
  let phase = '';
  const amount = (value: number, unit: Progress['unit']): string =>
    unit === 'bytes' ? formatSize(value) : `${value} ${unit}`;
  return {
    show: (progress) => {
      if (bar === undefined || progress.phase !== phase) {
        bar?.stop();
        phase = progress.phase;
        bar = new SingleBar({
          stream: process.stderr,
          hideCursor: true,
          clearOnComplete: false,
          format: '{phase} [{bar}] {percentage}%  {amount}',
        });
        bar.start(Math.max(progress.total, progress.done, 1), progress.done, { phase, amount: '' });
      }
      bar.setTotal(Math.max(progress.total, progress.done, 1));
      bar.update(progress.done, {
        phase,
        amount:
          progress.total > 0
            ? `${amount(progress.done, progress.unit)} of ${amount(progress.total, progress.unit)}`
            : amount(progress.done, progress.unit),
      });
    },
    stop: () => {
      bar?.stop();
    },
  };
}

import { FarshoreError } from './errors.ts';
import type { ByteCount } from './units.ts';

const POWERS: Readonly<Record<string, number>> = { '': 0, B: 0, K: 1, M: 2, G: 3, T: 4 };

/** `100M`, `10G`, `1.5T`, `4096`: binary units (K = 1024), any case, with or without `iB`. `what` names the value in the error. */
export function parseSize(text: string, what: string): ByteCount {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$/i.exec(text);
  const power = POWERS[(match?.[2] ?? '').toUpperCase()];
  if (match?.[1] === undefined || power === undefined) {
    throw new FarshoreError('input', `${what} "${text}" is not a size; write it like 100M, 10G or 16T`);
  }
  const bytes = Number(match[1]) * 1024 ** power;
  if (!Number.isSafeInteger(bytes)) {
    throw new FarshoreError('input', `${what} "${text}" is not a whole number of bytes in range`);
  }
  return bytes;
}

const UNITS_MS: Readonly<Record<string, number>> = { s: 1_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30s`, `10min`, `12h`, `7d`: milliseconds. `what` names the value in the error. */
export function parseDuration(text: string, what: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*$/.exec(text);
  const unit = UNITS_MS[match?.[2] ?? ''];
  if (match?.[1] === undefined || unit === undefined) {
    throw new FarshoreError('input', `${what} "${text}" is not a length of time; write it like 30min, 12h or 7d`);
  }
  return Number(match[1]) * unit;
}

/** `1.5 GiB`: three significant digits, for people. */
export function formatSize(bytes: ByteCount): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

/** `850 ms`, `3.2 s`, `4 min 10 s`, `2 h 5 min`, for people. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds - minutes * 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

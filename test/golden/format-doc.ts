import { readFileSync } from 'node:fs';

/**
 * Reads docs/FORMAT.md as data: layouts (tables after `<!-- layout: name -->`) and limits. The golden files are built from them, so
 * that a document that says something else than the code fails a test.
 */
export interface Field {
  /** Undefined where the document says "right after the field before". */
  readonly offset: number | undefined;
  /** A number of bytes, or `text`, or a word for something of variable size. */
  readonly size: number | string;
  readonly name: string;
}

export type FieldValue = number | string | Buffer;

const DOCUMENT = readFileSync(new URL('../../docs/FORMAT.md', import.meta.url), 'utf8');

function parseLayouts(document: string): ReadonlyMap<string, readonly Field[]> {
  const layouts = new Map<string, readonly Field[]>();
  for (const match of document.matchAll(/<!-- layout: ([a-z-]+) -->\n((?:\|.*\n)+)/g)) {
    const [, name = '', table = ''] = match;
    const fields = table
      .trim()
      .split('\n')
      .slice(2)
      .map((line): Field => {
        const row = /^\| (\d+|\+) \| (\w+) \| `(\w+)` \|/.exec(line);
        if (row === null) throw new Error(`layout ${name} has a row that is none: ${line}`);
        const [, offset = '', size = '', field = ''] = row;
        return {
          offset: offset === '+' ? undefined : Number(offset),
          size: /^\d+$/.test(size) ? Number(size) : size,
          name: field,
        };
      });
    layouts.set(name, fields);
  }
  return layouts;
}

const LAYOUTS = parseLayouts(DOCUMENT);

export function layoutNames(): string[] {
  return [...LAYOUTS.keys()];
}

export function layout(name: string): readonly Field[] {
  const fields = LAYOUTS.get(name);
  if (fields === undefined) throw new Error(`docs/FORMAT.md has no layout ${name}`);
  return fields;
}

/** Where a field with a stated offset starts, and its bytes. */
export function fixedField(name: string, field: string): { readonly offset: number; readonly size: number } {
  const found = layout(name).find((candidate) => candidate.name === field);
  if (found?.offset === undefined || typeof found.size !== 'number') throw new Error(`${name}.${field} is not fixed`);
  return { offset: found.offset, size: found.size };
}

/** Constants of the table of limits. */
export function limits(): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [, name = '', value = ''] of DOCUMENT.matchAll(/^\| `([A-Z_]+)` \| (\d+) \|/gm)) found.set(name, Number(value));
  return found;
}

/** Names and types in the table of attributes after `**heading**`, as `name: type`; of names marked ° too. */
export function attributes(heading: string): string[] {
  const start = DOCUMENT.indexOf(`**${heading}**`);
  const table = /(?:^\|.*\n)+/m.exec(DOCUMENT.slice(start))?.[0] ?? '';
  return table.split('\n').flatMap((line) => {
    const row = /^\| ((?:`\w+`(?:, )?)+)(?: °)? \| (\w+) \|/.exec(line);
    return [...(row?.[1] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => `${name ?? ''}: ${row?.[2] ?? ''}`);
  });
}

/** A little-endian unsigned integer, byte by byte. */
export function integer(value: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let rest = BigInt(value);
  for (let at = 0; at < size; at++) {
    bytes[at] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  if (rest !== 0n) throw new Error(`${value} does not fit ${size} bytes`);
  return bytes;
}

function fieldBytes(name: string, field: Field, value: FieldValue): Buffer {
  const { size } = field;
  if (typeof value === 'number') {
    if (typeof size !== 'number') throw new Error(`${name}.${field.name} is no number`);
    return integer(value, size);
  }
  if (typeof value === 'string' && size === 'text') {
    return Buffer.concat([integer(value.length, 1), Buffer.from(value, 'ascii')]);
  }
  const bytes = typeof value === 'string' ? Buffer.from(value, 'ascii') : value;
  if (typeof size === 'number' && bytes.length !== size) throw new Error(`${name}.${field.name} has ${size} bytes`);
  return bytes;
}

/** Lays the values out as the document says. Every field needs a value, and every value a field. */
export function assemble(name: string, values: Readonly<Record<string, FieldValue>>): Buffer {
  const fields = layout(name);
  const unknown = Object.keys(values).filter((key) => !fields.some((field) => field.name === key));
  if (unknown.length > 0) throw new Error(`docs/FORMAT.md has no ${name}.${unknown.join(', ')}`);
  const parts: Buffer[] = [];
  let position = 0;
  for (const field of fields) {
    const value = values[field.name];
    if (value === undefined) throw new Error(`a value for ${name}.${field.name} is missing`);
    if (field.offset !== undefined && field.offset !== position) {
      throw new Error(`${name}.${field.name} is at byte ${position}, not at ${field.offset}`);
    }
    const bytes = fieldBytes(name, field, value);
    parts.push(bytes);
    position += bytes.length;
  }
  return Buffer.concat(parts);
}

/** Overwrites a field with a stated offset in a structure that starts at byte 0. */
export function patch(bytes: Buffer, name: string, field: string, value: number): void {
  const { offset, size } = fixedField(name, field);
  integer(value, size).copy(bytes, offset);
}

/** CRC-32 bit by bit, as the conventions state it. */
export function bitwiseCrc32(...pieces: readonly Buffer[]): number {
  let crc = 0xffffffff;
  for (const piece of pieces) {
    for (const byte of piece) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320;
    }
  }
  return (crc ^ 0xffffffff) >>> 0;
}

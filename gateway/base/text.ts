/**
 * What a terminal does not show as it stands, or shows as something else: control characters, line ends, those that turn the direction of
 * writing, those that take no room, private and unassigned ones, halves of surrogate pairs.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** Whether something of it would not be seen as it is. */
export function hasUnprintable(text: string): boolean {
  return text.search(UNPRINTABLE) >= 0;
}

/** The same in one line of visible characters: the others, and the backslash, are written as in a string of JavaScript. */
export function printable(text: string): string {
  return text.replaceAll('\\', '\\\\').replace(UNPRINTABLE, escaped);
}

/** For text that is JSON already, where these stand in strings alone (but for the line ends between them). */
export function printableJson(json: string): string {
  return json.replace(UNPRINTABLE, (character) =>
    character === '\n'
      ? character
      : [...Array(character.length).keys()].map((index) => unit(character.charCodeAt(index))).join(''),
  );
}

/** The longest beginning that has at most so many bytes of UTF-8, in whole characters. */
export function cutToBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text;
  let cut = '';
  let used = 0;
  for (const character of text) {
    used += Buffer.byteLength(character);
    if (used > bytes) break;
    cut += character;
  }
  return cut;
}

function escaped(character: string): string {
  switch (character) {
    case '\n':
      return '\\n';
    case '\r':
      return '\\r';
    case '\t':
      return '\\t';
    default: {
      const code = character.codePointAt(0) ?? 0;
      if (code <= 0xff) return `\\x${code.toString(16).padStart(2, '0')}`;
      return code <= 0xffff ? unit(code) : `\\u{${code.toString(16)}}`;
    }
  }
}

function unit(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`;
}

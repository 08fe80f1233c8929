import { S3Error } from './s3-error.ts';

/** RFC 3986 encoding as SigV4 defines it: everything but letters, digits and -._~ ; slashes stay when `keepSlashes`. */
export function encodeUri(value: string, keepSlashes = false): string {
  const encoded = encodeURIComponent(value).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return keepSlashes ? encoded.replaceAll('%2F', '/') : encoded;
}

export function decodeUri(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    throw new S3Error('InvalidURI', "Couldn't parse the specified URI.");
  }
}

/** The request target taken apart; query parameters in the order sent, decoded. */
export interface Target {
  /** Decoded path. */
  readonly path: string;
  readonly query: readonly (readonly [name: string, value: string])[];
}

export function parseTarget(url: string): Target {
  const question = url.indexOf('?');
  const rawPath = question < 0 ? url : url.slice(0, question);
  if (!rawPath.startsWith('/')) throw new S3Error('InvalidURI', "Couldn't parse the specified URI.");
  const query = (question < 0 ? '' : url.slice(question + 1))
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const equals = pair.indexOf('=');
      const name = equals < 0 ? pair : pair.slice(0, equals);
      const value = equals < 0 ? '' : pair.slice(equals + 1);
      return [decodeUri(name.replaceAll('+', ' ')), decodeUri(value.replaceAll('+', ' '))] as const;
    });
  return { path: decodeUri(rawPath), query };
}

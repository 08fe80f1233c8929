import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { describeError, FarshoreError } from '../base/errors.ts';
import type { Environment } from './proxy.ts';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The certificates (PEM) of a file. Throws `input` when it has none, or one that cannot be read; `what` names the file's key. */
export function readCertificates(path: string, what: string): readonly string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new FarshoreError('input', `${what} ${path} cannot be read: ${describeError(error)}`, { cause: error });
  }
  const found = text.match(CERTIFICATE) ?? [];
  if (found.length === 0)
    throw new FarshoreError('input', `${what} ${path} has no certificate in PEM form (-----BEGIN CERTIFICATE-----)`);
  for (const certificate of found) {
    try {
      new X509Certificate(certificate);
    } catch (error) {
      throw new FarshoreError(
        'input',
        `${what} ${path} has a certificate that cannot be read: ${describeError(error)}`,
        {
          cause: error,
        },
      );
    }
  }
  return found;
}

/**
 * Whom TLS trusts: the roots that come with Node, and those of the file beside them; undefined: Node's own, without a file. With
 * roots of one's own Node forgets NODE_EXTRA_CA_CERTS, so they are added again; what is wrong with those Node has told at its start.
 */
export function trustedRoots(caFile: string | undefined, environment: Environment): string[] | undefined {
  if (caFile === undefined) return undefined;
  const own = readCertificates(caFile, 'cloud.caFile');
  const extra = environment['NODE_EXTRA_CA_CERTS'];
  let extras: readonly string[] = [];
  if (extra !== undefined && extra !== '') {
    try {
      extras = readCertificates(extra, 'NODE_EXTRA_CA_CERTS');
    } catch (error) {
      if (!(error instanceof FarshoreError)) throw error;
    }
  }
  return [...rootCertificates, ...extras, ...own];
}

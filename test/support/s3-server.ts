import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../gateway/base/clock.ts';
import type { Clock } from '../../gateway/base/clock.ts';
import { silentLog } from '../../gateway/base/log.ts';
import type { KeyPair } from '../../gateway/cloud/aws-clients.ts';
import { startS3Server } from '../../gateway/embedded/s3-server/server.ts';
import type { S3Server } from '../../gateway/embedded/s3-server/server.ts';
import { rawHttp } from './raw-http.ts';
import type { RawAnswer, RawRequest } from './raw-http.ts';

export interface TestS3 {
  readonly dir: string;
  readonly server: S3Server;
  send(request: RawRequest): Promise<RawAnswer>;
  /** PUT of `body` at /bucket/key. */
  put(key: string, body: Buffer | string, headers?: Record<string, string>): Promise<RawAnswer>;
  get(key: string, headers?: Record<string, string>): Promise<RawAnswer>;
  close(): Promise<void>;
}

/** An S3 server with an empty bucket `bucket`. */
export async function startTestS3(keyPair?: KeyPair, clock: Clock = systemClock, dir?: string): Promise<TestS3> {
  const place = dir ?? (await mkdtemp(join(tmpdir(), 'farshore-s3-')));
  const server = await startS3Server({ dir: place, port: 0, keyPair, clock, random: systemRandom, log: silentLog });
  if (server.files.buckets().length === 0) await server.files.createBucket('bucket');
  const send = (request: RawRequest): Promise<RawAnswer> => rawHttp(server.endpoint, request);
  return {
    dir: place,
    server,
    send,
    put: (key, body, headers) => send({ method: 'PUT', path: `/bucket/${key}`, body, ...(headers && { headers }) }),
    get: (key, headers) => send({ method: 'GET', path: `/bucket/${key}`, ...(headers && { headers }) }),
    close: async () => {
      await server.close();
      if (dir === undefined) await rm(place, { recursive: true, force: true });
    },
  };
}

/** Texts of all elements of that name, unescaped as far as tests need it. */
export function elements(answer: RawAnswer, name: string): string[] {
  return [...answer.body.toString('utf8').matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map(
    (match) => match[1] ?? '',
  );
}

import type { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import type { S3Client } from '@aws-sdk/client-s3';

/** The service does not take the credentials (any more): their provider may have others by now. */
const REFUSED: ReadonlySet<string> = new Set([
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidToken',
  'InvalidClientTokenId',
  'UnrecognizedClientException',
]);

type Client = Pick<S3Client | DynamoDBClient, 'config' | 'middlewareStack'>;

/**
 * The SDK asks for credentials again when they are about to expire by their own date, and for those without one never. Here it does so as well when a service
 * refuses them: the request fails as before, and whoever repeats it has the new ones. Many requests that fail at a time ask once.
 */
export function refreshRefusedCredentials({ config, middlewareStack }: Client): void {
  let generation = 0;
  let refreshed: Promise<unknown> = Promise.resolve();
  middlewareStack.add(
    (next: (args: never) => Promise<unknown>) => async (args: never) => {
      const began = generation;
      try {
        return await next(args);
      } catch (error) {
        if (isRefusal(error)) {
          if (began === generation) {
            generation += 1;
            // Where there are none now, the next attempt says so.
            refreshed = config.credentials({ forceRefresh: true }).catch(() => undefined);
          }
          await refreshed;
        }
        throw error;
      }
    },
    { step: 'initialize', priority: 'high', name: 'refreshRefusedCredentials' },
  );
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && REFUSED.has(error.name);
}

/** The service does not take the credentials (any more): their provider may have others by now. */
const REFUSED: ReadonlySet<string> = new Set([
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidToken',
  'InvalidClientTokenId',
  'UnrecognizedClientException',
]);

type Handler<Args, Result> = (args: Args) => Promise<Result>;

/** Where in the SDK's stack it belongs. */
export const REFRESH_CREDENTIALS = { step: 'initialize', priority: 'high', name: 'refreshRefusedCredentials' } as const;

/**
 * Middleware for an SDK client. The SDK asks for credentials again when they are about to expire by their own date, and for those without one never. With this it does
 * so as well when a service refuses them: the request fails as before, and whoever repeats it has the new ones. Many requests that
 * fail at a time ask once. `credentials` are those of the client's configuration.
 */
export function refreshRefusedCredentials(
  credentials: (options: { readonly forceRefresh: true }) => Promise<unknown>,
): <Args, Result>(next: Handler<Args, Result>) => Handler<Args, Result> {
  let generation = 0;
  let refreshed: Promise<unknown> = Promise.resolve();
  return (next) => async (args) => {
    const began = generation;
    try {
      return await next(args);
    } catch (error) {
      if (isRefusal(error)) {
        if (began === generation) {
          generation += 1;
          // Where there are none now, the next attempt says so.
          refreshed = credentials({ forceRefresh: true }).catch(() => undefined);
        }
        await refreshed;
      }
      throw error;
    }
  };
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && REFUSED.has(error.name);
}

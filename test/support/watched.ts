/** What has become of a call: 'waits', 'done', or the kind of its error. */
export interface Watched {
  now: string;
}

export function watch(work: void | Promise<void>): Watched {
  const watched: Watched = { now: 'waits' };
  Promise.resolve(work).then(
    () => (watched.now = 'done'),
    (error: unknown) => (watched.now = error instanceof Error && 'kind' in error ? String(error.kind) : String(error)),
  );
  return watched;
}

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { MessagePort } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';

/**
 * A thread of this process, with `workerData` and the ports in it that move there. The bundle has the program `<name>-worker.js` beside it. From the
 * sources it is TypeScript (`source`), which a thread can only run once it has registered tsx for itself.
 */
export function startThread(
  name: string,
  source: URL,
  workerData: unknown,
  transferList: readonly MessagePort[] = [],
): Worker {
  const options = { workerData, transferList: [...transferList], execArgv: [], name };
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL(`./${name}-worker.js`, import.meta.url), options);
  // `require` finds the CommonJS form; the other one lies beside it.
  const api = createRequire(import.meta.url)
    .resolve('tsx/esm/api')
    .replace(/\.cjs$/, '.mjs');
  const start = `import('${pathToFileURL(api).href}').then(({ register }) => { register(); return import('${source.href}'); });`;
  return new Worker(start, { ...options, eval: true });
}

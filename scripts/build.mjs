// Bundles the command line, the replication worker and the Lambda handlers into dist/ (ESM, dependencies of the gateway stay external).
import { build } from 'esbuild';
import { chmod, readdir, rm } from 'node:fs/promises';

await rm('dist', { recursive: true, force: true });
const common = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: true,
  logLevel: 'warning',
};

await build({
  ...common,
  entryPoints: {
    farshore: 'bin/farshore.ts',
    'replication-worker': 'gateway/replication/worker.ts',
    'io-worker': 'gateway/threads/io-worker.ts',
  },
  outdir: 'dist',
  packages: 'external',
  // What a command does not need is not loaded for it.
  splitting: true,
});
await chmod('dist/farshore.js', 0o755);

const handlers = (await readdir('lambdas')).filter((name) => name.endsWith('.ts') && name !== 'env.ts');
await build({
  ...common,
  entryPoints: Object.fromEntries(handlers.map((name) => [`${name.slice(0, -3)}/index`, `lambdas/${name}`])),
  outdir: 'dist/lambdas',
  outExtension: { '.js': '.mjs' },
  // Both are in the Lambda runtime: the SDK by itself, zstd in node:zlib.
  external: ['@aws-sdk/*', '@smithy/*', '@bokuweb/zstd-wasm'],
});

#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { runCli } from '../gateway/admin/cli.ts';
import { systemClock } from '../gateway/base/clock.ts';
import { runDemo } from '../gateway/demo/demo.ts';
import { serve, serveEmbeddedCloud } from '../gateway/programs.ts';
import { VERSION } from '../gateway/version.ts';

process.exitCode = await runCli(
  process.argv.slice(2),
  {
    serve,
    cloud: serveEmbeddedCloud,
    demo: (options) => runDemo({ ...options, program: fileURLToPath(import.meta.url), clock: systemClock }),
  },
  VERSION,
);

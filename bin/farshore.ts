#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { runCli } from '../gateway/admin/cli.ts';
import { systemClock } from '../gateway/base/clock.ts';
import { VERSION } from '../gateway/version.ts';

// The gateway, the embedded cloud and the demo are loaded only by the commands that run them: the others answer at once.
process.exitCode = await runCli(
  process.argv.slice(2),
  {
    serve: async (settings) => {
      const { serve } = await import('../gateway/programs.ts');
      await serve(settings);
    },
    cloud: async (options) => {
      const { serveEmbeddedCloud } = await import('../gateway/programs.ts');
      await serveEmbeddedCloud(options);
    },
    doctor: async (settings) => {
      const { examineAlone } = await import('../gateway/doctor.ts');
      return examineAlone(settings);
    },
    demo: async (options) => {
      const { runDemo } = await import('../gateway/demo/demo.ts');
      await runDemo({ ...options, program: fileURLToPath(import.meta.url), clock: systemClock });
    },
  },
  VERSION,
);

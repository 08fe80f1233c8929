import { defineConfig } from 'vitest/config';

// Each stage of scripts/test.mjs names its folders; nothing here depends on the machine's speed but the last resort against a hang.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
  },
});

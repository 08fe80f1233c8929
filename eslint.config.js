// @ts-check
import tseslint from 'typescript-eslint';

/** Time and randomness come in through ports, so that the simulation can drive everything. */
const ambient = {
  'no-restricted-properties': [
    'error',
    { object: 'Date', property: 'now', message: 'Take a Clock (base/clock).' },
    { object: 'Math', property: 'random', message: 'Take a Random (base/clock).' },
    { object: 'performance', property: 'now', message: 'Take a Clock (base/clock).' },
  ],
  'no-restricted-globals': [
    'error',
    { name: 'setTimeout', message: 'Take a Clock (base/clock).' },
    { name: 'setInterval', message: 'Take a Clock (base/clock).' },
  ],
  'no-restricted-syntax': [
    'error',
    { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: 'Take a Clock (base/clock).' },
  ],
  'no-restricted-imports': [
    'error',
    {
      paths: [
        { name: 'timers', message: 'Take a Clock.' },
        { name: 'node:timers', message: 'Take a Clock.' },
        { name: 'node:timers/promises', message: 'Take a Clock.' },
      ],
    },
  ],
};

export default tseslint.config(
  { ignores: ['dist/', 'cdk.out/', 'coverage/', 'node_modules/', '.stage/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    // One program for the whole run: a project service, which follows edits, takes a third longer.
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // A port's in-memory or synchronous implementation has methods with nothing to await.
      '@typescript-eslint/require-await': 'off',
      // Indices into buffers and typed arrays that were just bounded.
      '@typescript-eslint/no-non-null-assertion': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['gateway/**/*.ts', 'lambdas/**/*.ts'], ignores: ['gateway/base/clock.ts'], rules: ambient },
);

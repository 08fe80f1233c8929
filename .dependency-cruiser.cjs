/** The import direction of ARCHITECTURE.md, checked: an arrow that isn't named there is an error. */
const only = (name, from, allowed, comment) => ({
  name,
  comment,
  severity: 'error',
  from: { path: `^${from}/` },
  to: { path: '^(gateway|lambdas|lib|bin|test|bench)/', pathNot: `^(${[from, ...allowed].join('|')})/` },
});
const g = (...names) => names.map((name) => `gateway/${name}`);

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-tests-in-product',
      severity: 'error',
      from: { path: '^(gateway|lambdas|lib|bin)/' },
      to: { path: '^(test|bench)/' },
    },
    only('base-knows-nothing', 'gateway/base', [], 'base is the ground'),
    only('format-is-pure', 'gateway/format', g('base')),
    only('cloud-sees-format', 'gateway/cloud', g('base', 'format')),
    only('maintenance-sees-cloud', 'gateway/maintenance', g('base', 'format', 'cloud')),
    only('cache-sees-cloud', 'gateway/cache', g('base', 'format', 'cloud')),
    only(
      'replication-sees-cache-and-maintenance',
      'gateway/replication',
      g('base', 'format', 'cloud', 'maintenance', 'cache'),
    ),
    only('volume-joins-the-storage-half', 'gateway/volume', g('base', 'format', 'cloud', 'cache', 'replication')),
    only('scsi-sees-base', 'gateway/scsi', g('base')),
    only('iscsi-sees-scsi', 'gateway/iscsi', g('base', 'scsi')),
    only('access-sees-the-target-side', 'gateway/access', g('base', 'cloud', 'iscsi', 'scsi')),
    only('initiator-stands-alone', 'gateway/initiator', g('base')),
    only('isns-client-stands-alone', 'gateway/isns', g('base')),
    only('embedded-cloud-stands-alone', 'gateway/embedded', g('base', 'cloud')),
    only('lambdas-see-maintenance', 'lambdas', g('base', 'format', 'cloud', 'maintenance')),
    {
      name: 'lib-sees-names-only',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(gateway|lambdas|bin|test|bench)/', pathNot: '^(lambdas/env|gateway/cloud/table-schema)\\.ts$' },
    },
    {
      name: 'no-undeclared-packages',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-dev-packages-in-product',
      severity: 'error',
      from: { path: '^(gateway|lambdas)/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'], pathNot: ['@types/'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};

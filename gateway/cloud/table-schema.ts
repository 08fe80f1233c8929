/**
 * The shape of the one DynamoDB table, shared by the embedded cloud and the CDK stack. Both keys are strings.
 * Item kinds (see dynamo-items.ts for their attributes):
 *
 * | pk                  | sk                        | item                                             |
 * |---------------------|---------------------------|--------------------------------------------------|
 * | `lineage#<lineage>` | `volume#<volume>`         | volume                                           |
 * | `lineage#<lineage>` | `access#<volume>`         | access control and reservations of the volume    |
 * | `lineage#<lineage>` | `numbers`                 | next free segment number                         |
 * | `lineage#<lineage>` | `range#<from, 9 hex>`     | ledger entry of a range of numbers               |
 * | `log#<volume>`      | `<n, 16 hex>`             | version n                                        |
 * | `names`             | `<name>`                  | binding of a volume name                         |
 * | `gateway#<gateway>` | `beat`                    | heartbeat and fence notices                      |
 */
export const TABLE_SCHEMA = { partitionKey: 'pk', sortKey: 'sk' } as const;

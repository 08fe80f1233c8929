import type { InitiatorPort } from '../logical-unit.ts';

/** A port named by a TransportID; without an ISID: every port of that initiator that is known. */
export interface NamedPort {
  readonly name: string;
  readonly isid: string | undefined;
}

/** SCOPE and TYPE as they came: they are judged after the key is (SPC-4 6.16.3). */
export interface ScopeAndType {
  readonly scope: number;
  readonly type: number;
}

/** PERSISTENT RESERVE OUT, CDB and parameter list (SPC-4 6.16). */
export type ReserveOut =
  | {
      readonly action: 'register';
      readonly key: bigint;
      readonly newKey: bigint;
      readonly allTargetPorts: boolean;
      readonly persists: boolean;
      /** SPEC_I_PT: register these too; undefined when the bit is 0. */
      readonly others: readonly InitiatorPort[] | undefined;
    }
  | {
      readonly action: 'register-and-ignore';
      readonly newKey: bigint;
      readonly allTargetPorts: boolean;
      readonly persists: boolean;
    }
  | (ScopeAndType & { readonly action: 'reserve' | 'release'; readonly key: bigint })
  | { readonly action: 'clear'; readonly key: bigint }
  | (ScopeAndType & {
      readonly action: 'preempt' | 'preempt-and-abort';
      readonly key: bigint;
      /** SERVICE ACTION RESERVATION KEY. */
      readonly victimKey: bigint;
    })
  | {
      readonly action: 'register-and-move';
      readonly key: bigint;
      readonly newKey: bigint;
      readonly unregister: boolean;
      readonly persists: boolean;
      readonly relativeTargetPort: number;
      readonly destination: NamedPort;
    };

export type ReserveOutAction = ReserveOut['action'];

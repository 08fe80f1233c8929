import { describe, expect, it } from 'vitest';
import type { Log } from '../../../gateway/base/log.ts';
import { portLog, writeTold } from '../../../gateway/replication/port-log.ts';
import type { RpcPort } from '../../../gateway/replication/rpc.ts';
import { BoundedTeller, MAX_UNHEARD, newUnheard } from '../../../gateway/replication/told-bounded.ts';
import { auditByMessages, enterTold } from '../../../gateway/threads/audit-by-messages.ts';

interface Sent {
  readonly name: string;
  readonly detail: unknown;
}

/** A port whose other end takes up what was sent when the test says so. */
function slow() {
  const sent: Sent[] = [];
  const port: RpcPort = {
    postMessage: (message) => {
      const { name, detail } = message as Sent; // as sendEvent made it
      sent.push({ name, detail: structuredClone(detail) });
    },
    on: () => undefined,
  };
  const unheard = newUnheard();
  return { sent, unheard, teller: new BoundedTeller(port, unheard) };
}

function recorder(): { readonly log: Log; readonly lines: string[] } {
  const lines: string[] = [];
  const write = (fields: object, message: string): void => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };
  return { log, lines };
}

const REFUSED = {
  kind: 'login-refused',
  initiator: { name: undefined, address: '10.0.0.9' },
  target: undefined,
  portal: '10.0.0.1',
  status: '0201',
  reason: 'no',
  count: 1,
} as const;

describe('what a thread tells without being asked', () => {
  it('takes no more memory than the bound while nobody takes it up, and the lines that were left out are counted in the log', () => {
    const { sent, unheard, teller } = slow();
    const log = portLog(teller, { thread: 1 });
    for (let line = 0; line < MAX_UNHEARD + 5; line += 1) log.info({ line }, 'hello');
    log.error({}, 'ouch');
    expect(sent.length).toBe(MAX_UNHEARD);
    const { log: main, lines } = recorder();
    for (const { name, detail } of sent.splice(0, 10)) expect(writeTold(main, unheard, name, detail)).toBe(true);
    log.info({}, 'again');
    for (const { name, detail } of sent.splice(0)) writeTold(main, unheard, name, detail);
    expect(lines.length).toBe(MAX_UNHEARD + 2);
    expect(lines.at(-2)).toMatch(/left out.*\{"lines":\{"info":5,"error":1\}\}/);
    expect(lines.at(-1)).toBe('again {"thread":1}');
    // All was taken up: there is as much room as in the beginning.
    for (let line = 0; line < MAX_UNHEARD + 5; line += 1) log.info({ line }, 'hello');
    expect(sent.length).toBe(MAX_UNHEARD);
  });

  it('enters in the audit log how many entries of which event were left out; a flood of lines takes no entry’s place', () => {
    const { sent, unheard, teller } = slow();
    const audit = auditByMessages(teller);
    const log = portLog(teller);
    for (let line = 0; line < 2 * MAX_UNHEARD; line += 1) log.info({ line }, 'hello');
    for (let login = 0; login < MAX_UNHEARD + 3; login += 1) audit.session(REFUSED);
    audit.note({ event: 'session-access', by: 'gateway' }, 'logins');
    audit.note({ event: 'restored', by: 'gateway' });
    const entered: string[] = [];
    const main = {
      session: ({ kind }: { readonly kind: string }) => entered.push(kind),
      note: ({ event }: { readonly event: string }, series = 'changes') => entered.push(`${series} ${event}`),
      missed: (series: string, event: string, count: number) => entered.push(`${count} of ${series} ${event}`),
    };
    const { log: other } = recorder();
    const takeUp = (): void => {
      for (const { name, detail } of sent.splice(0))
        if (!enterTold(main, unheard, name, detail)) writeTold(other, unheard, name, detail);
    };
    takeUp();
    expect(entered).toEqual(Array.from({ length: MAX_UNHEARD }, () => 'login-refused'));
    entered.length = 0;
    audit.note({ event: 'session-access', by: 'gateway' }, 'logins');
    takeUp();
    expect(entered).toEqual([
      '3 of noise login-refused',
      '1 of logins session-access',
      '1 of changes restored',
      'logins session-access',
    ]);
  });
});

import { join, resolve } from 'node:path';
import { LoggedProcess, eventually } from '../test/support/processes.ts';
import { remoteControl } from '../test/support/fault-proxy/control.ts';
import type { FaultControl } from '../test/support/fault-proxy/fault-proxy.ts';
import type { CloudPorts } from '../test/support/gateway-process.ts';

const READY_LIMIT_MS = 60_000;

/** The fault proxy as a process of its own, so that its work is nobody's but its own. */
export interface ProxyProcess extends CloudPorts {
  readonly control: FaultControl;
  end(): Promise<void>;
}

export async function startProxyProcess(directory: string, upstream: CloudPorts): Promise<ProxyProcess> {
  const program = resolve(import.meta.dirname, '../test/support/fault-proxy/process.ts');
  const ports = [String(upstream.s3Port), String(upstream.dynamodbPort)];
  const daemon = new LoggedProcess(
    process.execPath,
    ['--import', 'tsx', program, ...ports],
    join(directory, 'fault-proxy.log'),
  );
  const told = await eventually(
    () => {
      if (!daemon.isRunning()) throw new Error(`the fault proxy has ended:\n${daemon.logTail()}`);
      return /^\{"s3Port".*\}$/m.exec(daemon.log())?.[0];
    },
    READY_LIMIT_MS,
    () => `the fault proxy did not get ready:\n${daemon.logTail()}`,
  );
  const { controlPort, ...listening } = JSON.parse(told) as CloudPorts & { readonly controlPort: number };
  return { ...listening, control: remoteControl(controlPort), end: () => daemon.end('SIGKILL') };
}

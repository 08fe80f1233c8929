import type { RpcPort } from '../replication/rpc.ts';
import { sendEvent } from '../replication/rpc.ts';
import type { FromThread, ToThread } from './messages.ts';

/** From the main thread to an I/O thread. */
export function tellThread<Name extends keyof ToThread>(port: RpcPort, name: Name, detail: ToThread[Name]): void {
  sendEvent(port, name, 0, detail);
}

/** From an I/O thread to the main one; `target`: the volume it is about. */
export function tellMain<Name extends keyof FromThread>(
  port: RpcPort,
  name: Name,
  detail: FromThread[Name],
  target = 0,
): void {
  sendEvent(port, name, target, detail);
}

import { request } from 'node:http';
import { userInfo } from 'node:os';
import { createInterface } from 'node:readline';
import { FarshoreError, type ErrorKind } from '../base/errors.ts';
import { controlSocketPath, USER_HEADER } from './control-server.ts';
import type { ArgumentsOf, GatewayApi, Operation, Progress, Results } from './gateway-api.ts';

type Line =
  | { readonly progress: Progress }
  | { readonly result: unknown }
  | { readonly error: { readonly kind: ErrorKind; readonly message: string } };

/** Speaks to the gateway that runs in `stateDir`; `not-found` with what to do when none does. */
export function connectToGateway(stateDir: string): GatewayApi {
  return {
    call: (op, args, onProgress) => callGateway(stateDir, op, args, onProgress),
  };
}

function callGateway<Op extends Operation>(
  stateDir: string,
  op: Op,
  args: ArgumentsOf<Op>,
  onProgress: (progress: Progress) => void,
): Promise<Results[Op]> {
  const socketPath = controlSocketPath(stateDir);
  return new Promise((resolve, reject) => {
    let answered = false;
    const fail = (error: Error): void => {
      answered = true;
      reject(error);
    };
    const headers = { [USER_HEADER]: userName() };
    // A kept connection may be closing just now, and then the call is lost.
    const call = request({ socketPath, path: `/v1/${op}`, method: 'POST', headers, agent: false }, (response) => {
      const lines = createInterface({ input: response, crlfDelay: Infinity });
      lines.on('line', (text) => {
        const line = JSON.parse(text) as Line; // written by ControlServer
        if ('progress' in line) onProgress(line.progress);
        else if ('error' in line) fail(new FarshoreError(line.error.kind, line.error.message));
        else {
          answered = true;
          resolve(line.result as Results[Op]); // the result of the operation that was called
        }
      });
      const gone = (): void => {
        if (!answered)
          fail(new FarshoreError('retry', `the gateway in ${stateDir} went away before it answered; see its log`));
      };
      lines.on('close', gone);
      // The lines tell of an answer that was torn off as well, and an error that nobody listens for would end the program.
      lines.on('error', gone);
      response.on('error', gone);
    });
    call.on('error', (error: NodeJS.ErrnoException) => {
      if (answered) return;
      const nobody = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      fail(
        nobody
          ? new FarshoreError(
              'not-found',
              `no gateway runs in ${stateDir}; start it with: farshore serve --config FILE`,
              { cause: error },
            )
          : new FarshoreError('retry', `cannot reach the gateway through ${socketPath}: ${error.message}`, {
              cause: error,
            }),
      );
    });
    call.end(JSON.stringify(args));
  });
}

/** For the audit log; header values are ASCII. */
function userName(): string {
  try {
    return userInfo().username.replace(/[^\x21-\x7e]/g, '_');
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}`; // no entry in the user database
  }
}

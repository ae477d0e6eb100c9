import { constants } from "node:os";

/** What ends a server in good order: the terminal's, the service manager's, and that of a terminal that goes away. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * One wish may come as two signals, in milliseconds: `npm start` hands on what the terminal sends to all, timeout(1) signals
 * its whole group besides.
 */
const SAME_WISH = 500;

/** Resolves with the first signal that asks to end; one that comes later ends the process at once. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked: number | undefined;
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked !== undefined && performance.now() - asked > SAME_WISH) process.exit(128 + constants.signals[signal]);
      asked ??= performance.now();
      resolve(signal);
    };
    for (const signal of SIGNALS) process.on(signal, onSignal);
  });
}

import { readFileSync } from "node:fs";

/** What a process has written into its file of progress; empty when it has not come so far. */
export function reached(progress) {
  try {
    return readFileSync(progress, "utf8").trim();
  } catch {
    return "";
  }
}

/**
 * Waits for the end of a process that writes into a file what it is at. One that writes nothing new for so many milliseconds
 * hangs and is killed.
 * @returns what that means: undefined for an end with status 0
 */
export function endOf(child, progress, patience) {
  let last = "";
  let hangs = false;
  const watchdog = setInterval(() => {
    const now = reached(progress);
    hangs ||= now === last;
    if (hangs) child.kill("SIGKILL");
    last = now;
  }, patience);
  return new Promise((resolve) => {
    child.on("exit", (status, signal) => {
      clearInterval(watchdog);
      if (hangs) resolve("a hang");
      else if (signal !== null) resolve(`death by ${signal}`);
      else resolve(status === 0 ? undefined : "a finding");
    });
  });
}

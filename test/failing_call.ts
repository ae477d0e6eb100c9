import { libc } from "../src/os/index.js";

/** Has one call of the C library fail while something runs; errno is that of whatever failed last. */
export function whileFailing(name: "eventfd" | "memfd_create" | "mmap", run: () => void): void {
  const calls = libc();
  const real = calls[name];
  calls[name] = () => -1;
  try {
    run();
  } finally {
    Object.assign(calls, { [name]: real });
  }
}

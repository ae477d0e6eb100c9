const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Between a reset and the cut a GPU's links are open: whoever wants to end this process waits until the work is done. */
export async function uninterrupted<T>(work: () => Promise<T>): Promise<T> {
  const wait = () => {
    process.stderr.write("linkfence: ends when the hardware is in order again\n");
  };
  for (const signal of SIGNALS) process.on(signal, wait);
  try {
    return await work();
  } finally {
    for (const signal of SIGNALS) process.off(signal, wait);
  }
}

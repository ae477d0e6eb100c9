/** Memory that is shown for the guest: any size will do, as long as both places have the same. */
const GUEST_MEMORY = "4G";
/** A chassis of our own, so that slot numbers cannot meet those of the user's ports. */
const CHASSIS = 76;
/**
 * How long QEMU waits for an answer, in milliseconds, instead of 5 s, after which it gives up: pinning a large guest's memory
 * takes longer, and so may the reset of real hardware.
 */
const REAL_TIMEOUT = 120_000;
const MEMORY_ID = "linkfence-memory";

/** Guest memory that is shared, so that the server reaches it for DMA. libvirt makes its own. */
const SHARED_MEMORY: readonly string[] = [
  "-m",
  GUEST_MEMORY,
  "-object",
  `memory-backend-memfd,id=${MEMORY_ID},size=${GUEST_MEMORY},share=on`,
  "-machine",
  `memory-backend=${MEMORY_ID}`,
];

/** What functions are: models, or hardware that takes its time. */
export interface HardwareKind {
  virtual: boolean;
}

/**
 * What gives a `q35` guest these functions, each behind a port of its own, so that the guest can reset each alone.
 * Options and their values in turn, as what follows.
 * @param sockets absolute paths
 */
export function deviceArguments(sockets: readonly string[], { virtual }: HardwareKind): string[] {
  return [
    // With ACPI hotplug the ports show no active link, and Linux gives up on a function that it has reset.
    "-global",
    "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    ...sockets.flatMap((path, index) => {
      const port = `linkfence-port${index + 1}`;
      const patience = virtual ? {} : { "x-msg-timeout": REAL_TIMEOUT };
      const device = { driver: "vfio-user-pci", bus: port, socket: { type: "unix", path }, ...patience };
      const root = `pcie-root-port,id=${port},bus=pcie.0,chassis=${CHASSIS},slot=${index + 1}`;
      return ["-device", root, "-device", JSON.stringify(device)];
    }),
  ];
}

/** All that one guest needs, after `qemu-system-x86_64 -machine q35 ...`. */
export function qemuArguments(sockets: readonly string[], hardware: HardwareKind): string[] {
  return [...SHARED_MEMORY, ...deviceArguments(sockets, hardware)];
}

/** Arguments as lines for a POSIX shell, an option with its value on each. */
export function shellLines(args: readonly string[]): string[] {
  const lines: string[] = [];
  for (let at = 0; at < args.length; at += 2)
    lines.push(
      args
        .slice(at, at + 2)
        .map(shellWord)
        .join(" "),
    );
  return lines.map((line, index) => (index < lines.length - 1 ? `${line} \\` : line));
}

/** A word that the shell takes as it is: nothing is special between single quotes but the quote itself. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

import { Failure, type HostRoot } from "./host_root.js";
import { isCanonical } from "./pci_sysfs.js";

const SLOTS = "sys/bus/pci/slots";
/** Names that can stand on a command line: no comma or equals sign, nothing a terminal would act on. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/**
 * Labels of the physical slots by domain, bus and device (`0000:3b:00`) of what sits in them, where the label is that
 * device's alone and can be typed.
 */
export function readSlotLabels(root: HostRoot): Map<string, string> {
  const labels = new Map<string, string>();
  const names = root.list(SLOTS);
  if (names instanceof Failure) return labels;
  for (const name of names.sort()) {
    if (!LABEL.test(name)) continue;
    const device = root.text(`${SLOTS}/${name}/address`);
    // An empty slot of some platforms has a bus and no device.
    if (!(device instanceof Failure) && isCanonical(`${device}.0`) && !labels.has(device)) labels.set(device, name);
  }
  return labels;
}

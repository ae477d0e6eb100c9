/** Opens a function by VFIO, as a hypervisor does, and keeps it open: its first access to a BAR claims all of them. */
import { COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";
import { VfioFunction } from "/linkfence/guest/vfio_function.mjs";

const vfio = new VfioFunction(new PciFunction(process.argv[2]));
vfio.setCommand(COMMAND_MEMORY);
vfio.read(0, 0, 4);
console.log("open");
setInterval(() => vfio, 1000);

/** Offsets and bits of a type 0 configuration space header (PCI local bus specification 6.1 and 6.2). */
export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_MEMORY = 1 << 1;
export const PCI_STATUS = 0x06;
export const PCI_STATUS_CAPABILITIES = 1 << 4;
export const PCI_BAR0 = 0x10;
export const PCI_ROM = 0x30;
export const PCI_CAPABILITIES_POINTER = 0x34;

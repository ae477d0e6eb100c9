/**
 * Standard capabilities by id, named as `lspci` of pciutils 3.9 names them: its text up to the version, the subtype or
 * the first field (ls-caps.c).
 */
const STANDARD: readonly string[] = [
  "Null",
  "Power Management",
  "AGP",
  "Vital Product Data",
  "Slot ID",
  "MSI",
  "CompactPCI hot-swap",
  "PCI-X",
  "HyperTransport",
  "Vendor Specific Information",
  "Debug port",
  "CompactPCI central resource control",
  "Hot-plug capable",
  "Subsystem",
  "AGP3",
  "Secure device",
  "Express",
  "MSI-X",
  "SATA HBA",
  "PCI Advanced Features",
  "Enhanced Allocation (EA)",
];

/** Extended capabilities by id, likewise (ls-ecaps.c). Ids without a name there have none here. */
const EXTENDED: ReadonlyMap<number, string> = new Map([
  [0x00, "Null"],
  [0x01, "Advanced Error Reporting"],
  [0x02, "Virtual Channel"],
  [0x03, "Device Serial Number"],
  [0x04, "Power Budgeting"],
  [0x05, "Root Complex Link"],
  [0x06, "Root Complex Internal Link"],
  [0x07, "Root Complex Event Collector Endpoint Association"],
  [0x08, "Multi-Function Virtual Channel"],
  [0x09, "Virtual Channel"],
  [0x0a, "Root Complex Register Block"],
  [0x0b, "Vendor Specific Information"],
  [0x0d, "Access Control Services"],
  [0x0e, "Alternative Routing-ID Interpretation (ARI)"],
  [0x0f, "Address Translation Service (ATS)"],
  [0x10, "Single Root I/O Virtualization (SR-IOV)"],
  [0x11, "Multi-Root I/O Virtualization"],
  [0x12, "Multicast"],
  [0x13, "Page Request Interface (PRI)"],
  [0x15, "Physical Resizable BAR"],
  [0x16, "Dynamic Power Allocation"],
  [0x17, "Transaction Processing Hints"],
  [0x18, "Latency Tolerance Reporting"],
  [0x19, "Secondary PCI Express"],
  [0x1a, "Protocol Multiplexing"],
  [0x1b, "Process Address Space ID (PASID)"],
  [0x1c, "LN Requester"],
  [0x1d, "Downstream Port Containment"],
  [0x1e, "L1 PM Substates"],
  [0x1f, "Precision Time Measurement"],
  [0x20, "PCI Express over M_PHY"],
  [0x21, "FRS Queueing"],
  [0x22, "Readiness Time Reporting"],
  [0x23, "Designated Vendor-Specific"],
  [0x24, "Virtual Resizable BAR"],
  [0x25, "Data Link Feature"],
  [0x26, "Physical Layer 16.0 GT/s"],
  [0x27, "Lane Margining at the Receiver"],
  [0x28, "Hierarchy ID"],
  [0x29, "Native PCIe Enclosure Management"],
  [0x2e, "Data Object Exchange"],
]);

/**
 * The name pciutils 3.9 gives a capability; `#2a` (hexadecimal, at least two digits) for an id it does not know.
 * @param id 0..0xff of the standard list, 0..0xffff of the extended one
 */
export function capabilityName(id: number, extended: boolean): string {
  const name = extended ? EXTENDED.get(id) : STANDARD[id];
  return name ?? `#${id.toString(16).padStart(2, "0")}`;
}

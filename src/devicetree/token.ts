/** Words that begin each entry of the structure block (Devicetree Specification 0.4, section 5.4.1). */
export const FDT_TOKEN = { beginNode: 1, endNode: 2, property: 3, nop: 4, end: 9 } as const;

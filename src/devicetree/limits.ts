/** Largest flattened tree that is read, in bytes. Linux on arm64 stops at 2 MiB, skiboot writes at most 512 KiB. */
export const MAX_TREE_BYTES = 16 << 20;

/** Most nodes in a tree; a POWER9 host's firmware tree has under a thousand. */
export const MAX_NODES = 1 << 18;

/** Most levels of nodes, the root included: FDT_MAX_DEPTH of Linux (drivers/of/fdt.c), which drops what is deeper. */
export const MAX_DEPTH = 64;

/** Longest node or property name in bytes: what a file name in `/proc/device-tree` can hold. */
export const MAX_NAME_BYTES = 255;

/** Writes a whole file or nothing: beside the target first, synced, then renamed over it. */
export async function writeFileWhole(path: string, data: string | Uint8Array): Promise<void> {
  const { default: writeFileAtomic } = await import("write-file-atomic");
  await writeFileAtomic(path, typeof data === "string" ? data : Buffer.from(data));
}

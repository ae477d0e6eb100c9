/** Runs every benchmark, or those named: `npm run bench -- plan startup`. */
const BENCHMARKS: Record<string, () => Promise<{ run(): Promise<void> }>> = {
  devicetree: () => import("./devicetree.js"),
  sysfs: () => import("./sysfs.js"),
  plan: () => import("./plan.js"),
  picture: () => import("./picture.js"),
  page: () => import("./page.js"),
  startup: () => import("./startup.js"),
  "vfio-user": () => import("./vfio_user.js"),
  fence: () => import("./fence.js"),
  serve: () => import("./serve.js"),
  live: () => import("./live.js"),
};

const named = process.argv.slice(2);
const stranger = named.find((name) => !(name in BENCHMARKS));
if (stranger !== undefined) {
  console.error(`no benchmark ${stranger}; there are ${Object.keys(BENCHMARKS).join(", ")}`);
  process.exit(2);
}
for (const [name, load] of Object.entries(BENCHMARKS)) {
  if (named.length > 0 && !named.includes(name)) continue;
  const { run } = await load();
  await run();
  console.log();
}

import assert from "node:assert/strict";
import { Mapping } from "../../../src/os/index.js";
import { VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP } from "../../../src/vfio/index.js";
import { VfioUserClient } from "../../../src/vfio-user/index.js";
import { guestFiles } from "../guest_files.js";
import type { CheckContext } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";
import { BLOCK, Pattern } from "./guest/pattern.mjs";
import type { LinkfenceServer } from "./linkfence_server.js";
import { checkQuiet } from "./quiet_qemu.js";

/** The NVLink2 RAM region, the first after the fixed ones: a window of 128 GiB onto 16 GiB. */
const RAM_REGION = VFIO_PCI_NUM_REGIONS;
const RAM_WINDOW = 128n << 30n;
const GIB = 2 ** 30;
/** A piece that lies on both sides of 4 GiB. */
const OFFSET = 3 * GIB;
const SIZE = 2 * GIB;
const GUEST_SEED = 1;
const HOST_SEED = 2;

const GUEST_FILES = guestFiles({ v100: "v100/guest" });
const RESULTS = [
  "the bridge has the RAM and the guest has no GPU",
  "the guest writes through the BAR without a message for each access",
  "the guest reads what the host has written through region 9",
];

/**
 * A guest has the NPU bridges of an assignment, and with them its GPU's RAM as a BAR; a client on the host has the GPU,
 * and maps the same RAM by region 9.
 */
export class CoherentRam {
  constructor(
    private readonly context: CheckContext,
    private readonly server: LinkfenceServer,
    private readonly assignment: string,
  ) {}

  async run(budget: number): Promise<void> {
    const { functions } = this.server.assignment(this.assignment);
    const gpu = functions.find(({ kind }) => kind === "gpu")?.socket ?? "";
    const client = new VfioUserClient(gpu);
    const guest = new VirtualMachine(this.context.parts, {
      job: "node /linkfence/guest/v100/coherent_ram_guest.mjs",
      env: { OFFSET: String(OFFSET), SIZE: String(SIZE) },
      files: GUEST_FILES,
      node: true,
      devices: withoutDevice(this.server.qemu(this.assignment), gpu),
      timeoutS: budget,
    });
    await this.context.report.scenario("coherent RAM", budget, [guest], () => this.#bothWays(client, guest));
    client.close();
  }

  async #bothWays(client: VfioUserClient, guest: VirtualMachine): Promise<void> {
    const { report } = this.context;
    const windows = mapRam(client);
    await guest.reach("written by the guest");
    await report.run("coherent RAM: the host reads through region 9 what the guest wrote through the BAR", () => {
      const pattern = new Pattern(GUEST_SEED);
      const rate = eachBlock(windows, (n, block) => {
        assert.equal(Buffer.compare(block, pattern.block(n)), 0, `block ${n} is not what the guest wrote`);
      });
      return `${SIZE / GIB} GiB compared, ${rate.toFixed(2)} GB/s`;
    });
    const pattern = new Pattern(HOST_SEED);
    eachBlock(windows, (n, block) => block.set(pattern.block(n)));
    guest.proceed();
    const { reason } = await guest.ended;
    report.addResults("coherent RAM", guest.results, RESULTS);
    await checkQuiet(report, "coherent RAM", [guest]);
    assert.equal(reason, "done");
    for (const window of windows) window.unmap();
  }
}

/** Maps the piece of region 9. */
function mapRam(client: VfioUserClient): Mapping[] {
  const { info, fd } = client.regionInfo(RAM_REGION);
  assert.ok(fd !== undefined && (info.flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0, "region 9 cannot be mapped");
  assert.equal(info.size, RAM_WINDOW);
  const windows = Array.from({ length: SIZE / GIB }, (_, index) => {
    return new Mapping(fd, OFFSET + index * GIB, GIB, "read-write");
  });
  fd.close();
  return windows;
}

/** Goes through all blocks; returns the rate in GB/s. */
function eachBlock(windows: readonly Mapping[], run: (n: number, block: Uint8Array) => void): number {
  const start = performance.now();
  for (let n = 0; n < SIZE / BLOCK; n++) {
    const at = n * BLOCK;
    const window = windows[Math.floor(at / GIB)];
    if (window !== undefined) run(n, window.bytes.subarray(at % GIB, (at % GIB) + BLOCK));
  }
  return SIZE / 1e6 / (performance.now() - start);
}

/** QEMU's arguments without the device of this socket; its port stays, empty. */
function withoutDevice(args: readonly string[], socket: string): string[] {
  const device = args.findIndex((arg) => arg.includes(`"path":${JSON.stringify(socket)}`));
  assert.ok(device > 0, `no device of ${socket} among ${args.join(" ")}`);
  return args.filter((_, index) => index !== device && index !== device - 1);
}

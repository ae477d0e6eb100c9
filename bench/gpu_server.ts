import { createDevices } from "../examples/copy_engine.js";
import { FencedDevice } from "../src/fence/fenced_device.js";
import { Container, ContainerMember } from "../src/vfio/container.js";
import { runToEnd, type VfioDevice } from "../src/vfio/index.js";
import { VfioUserServer } from "../src/vfio-user/index.js";
import { GpuDevice } from "../src/virtual/gpu_device.js";
import { sixOwners } from "./six_owners.js";

// Serves at the socket that is named second: a virtual V100 as it is (`raw`), the same as `serve` does it (`fenced`), or
// the copy engine of the examples (`engine`). Nothing else runs here, so that what is measured is the server.

const [kind = "", socket = ""] = process.argv.slice(2);
const devices = kind === "engine" ? createDevices([socket]).devices : [{ socket, device: gpu(kind === "fenced") }];
new VfioUserServer(devices).run();

function gpu(isFenced: boolean): VfioDevice {
  const { virtual, fences, addresses } = sixOwners("at once");
  const [address = ""] = addresses;
  const inner = new GpuDevice(virtual, address);
  runToEnd(fences.renewAll());
  if (!isFenced) return inner;
  return new ContainerMember(new FencedDevice(inner, fences.of(address), { pageSize: 4096 }), new Container());
}

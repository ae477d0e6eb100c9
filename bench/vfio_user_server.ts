import { VfioUserServer } from "../src/vfio-user/index.js";
import { BenchDevice } from "./vfio_user_device.js";

// Serves a device at each socket named on the command line, after the microseconds to spin. Nothing else runs here, so
// that what is measured is the server.

const [spin = "0", ...sockets] = process.argv.slice(2);
const devices = sockets.map((socket) => ({ socket, device: new BenchDevice() }));
new VfioUserServer(devices, { spin: Number(spin) }).run();

/** Serves a copy engine on each socket path given, until it is stopped by a signal. */
import { startServer } from "../src/vfio-user/index.js";

const server = await startServer({
  module: new URL("./copy_engine.ts", import.meta.url),
  data: process.argv.slice(2),
  onEvent: (event) => console.log(JSON.stringify(event)),
});
console.log(`listening on ${server.sockets.join(", ")}`);
await server.done;

import { Worker, type WorkerOptions } from "node:worker_threads";

/**
 * Starts a worker thread whose code is a module beside the caller's. Run from source, it needs the loader that runs this,
 * which workers do not inherit. The starter's event loop need not turn for the worker to begin.
 * @param caller `import.meta.url` of the caller
 * @param name of the module, without its suffix
 */
export function startWorker(caller: string, name: string, options: WorkerOptions): Worker {
  if (!caller.endsWith(".ts")) return new Worker(new URL(`./${name}.js`, caller), options);
  const url = new URL(`./${name}.ts`, caller).href;
  // The loader's own thread does not keep the worker alive.
  const code = `const alive = setInterval(() => {}, 1000);
    import("tsx/esm/api").then(({ register }) => { register(); return import(${JSON.stringify(url)}); })
      .finally(() => clearInterval(alive));`;
  return new Worker(code, { ...options, eval: true });
}

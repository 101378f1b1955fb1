// Makes function.wasm of function.js: `npm run build`, or `wkctl fn build`.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

// The interfaces of WASI come with jco.
const interfaces = new URL("./node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12/", import.meta.url);
await rm("build", { recursive: true, force: true });
await mkdir("build/wit", { recursive: true });
await cp(interfaces, "build/wit/deps", { recursive: true });
await writeFile("build/wit/world.wit", "package local:function;\n\nworld function {\n  include wasi:http/proxy@0.2.12;\n}\n");

const { component } = await componentize(await readFile("function.js", "utf8"), { witPath: "build/wit", worldName: "function" });
await writeFile("function.wasm", component);

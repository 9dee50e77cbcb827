// What all Node clients have in common: their arguments, the cases they know, and the line they print for each.
//
// Usage of every client: AEGIS_NODE_MODULES=DIR node CLIENT BASE_URL CASE [BASE_URL CASE ...]

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const file = JSON.parse(readFileSync(new URL("cases.json", import.meta.url)));

export const prompt = file.prompt;
export const tool = file.tool;
// Clients that show a model's name take any; the key is none.
export const model = "scripted";
export const key = "none";

// The packages lie in the tools folder, not beside these scripts.
export const packages = createRequire(path.join(process.env.AEGIS_NODE_MODULES, "anchor.js"));

// The version of an installed package.
export function version(name) {
  const manifest = path.join(process.env.AEGIS_NODE_MODULES, name, "package.json");
  return JSON.parse(readFileSync(manifest)).version;
}

// An error, and how it showed; of one that wraps others, the first code on the way down.
export function raised(error, type = error.constructor.name) {
  const found = { type, message: error.message, code: null, carried_by: null };
  for (let inner = error; inner && found.code === null; inner = inner.cause) {
    if (typeof inner.code === "string") {
      found.code = inner.code;
      found.carried_by = inner === error ? type : inner.constructor.name;
    }
  }
  return found;
}

// Runs `ask(url, case, seen)` for each case of the command line. What is raised is a result like any other.
export async function run(client, version, words, ask) {
  while (words.length > 0) {
    const [url, name] = words.splice(0, 2);
    const seen = { text: "", reasoning: "", tool_calls: [], finishes: [], usages: 0, chunks: 0, ids: new Set(), error: null };
    try {
      await ask(url, { name, ...file.cases[name] }, seen);
    } catch (error) {
      seen.error = raised(error);
    }
    console.log(JSON.stringify({ client, version, case: name, ...seen, ids: seen.ids.size }));
  }
}

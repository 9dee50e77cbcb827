// Sends one chat request with openai-node and prints one JSON line about what the caller sees.
//
// Usage: AEGIS_NODE_MODULES=DIR node openai_client.mjs PACKAGE BASE_URL REQUEST_JSON

import { createRequire } from "node:module";
import path from "node:path";

const [name, baseURL, text] = process.argv.slice(2);
const require = createRequire(path.join(process.env.AEGIS_NODE_MODULES, "anchor.js"));
const { OpenAI } = require(name);

const seen = { chunks: 0, text: "", finish: null, tools: {} };

function takeChunk(chunk) {
  seen.chunks += 1;
  for (const choice of chunk.choices) {
    seen.text += choice.delta.content ?? "";
    seen.finish = choice.finish_reason ?? seen.finish;
    for (const call of choice.delta.tool_calls ?? []) {
      const known = (seen.tools[call.index] ??= { name: "", arguments: "" });
      known.name += call.function.name ?? "";
      known.arguments += call.function.arguments ?? "";
    }
  }
}

// The names of an error's class and of all classes above it.
function kinds(error) {
  const names = [];
  for (let proto = Object.getPrototypeOf(error); proto; proto = Object.getPrototypeOf(proto)) {
    names.push(proto.constructor.name);
  }
  return names;
}

try {
  const client = new OpenAI({ baseURL, apiKey: "none" });
  const request = JSON.parse(text);
  const answer = await client.chat.completions.create(request);
  if (request.stream) {
    for await (const chunk of answer) takeChunk(chunk);
  } else {
    seen.text = answer.choices[0].message.content;
    seen.finish = answer.choices[0].finish_reason;
  }
} catch (error) {
  const { message, code = null, type = null, status = null, error: body = null } = error;
  seen.error = { kinds: kinds(error), message, code, type, status, body };
}
console.log(JSON.stringify(seen));

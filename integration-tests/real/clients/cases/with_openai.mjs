// openai-node. The first argument is the package, of which two versions are installed under two names.

import { key, model, packages, prompt, run, tool, version } from "./contract.mjs";

const [name, ...words] = process.argv.slice(2);
const { OpenAI } = packages(name);

function takeChunk(seen, chunk, calls) {
  seen.chunks += 1;
  seen.ids.add(chunk.id);
  if (chunk.usage) seen.usages += 1;
  for (const { delta, finish_reason } of chunk.choices) {
    seen.text += delta.content ?? "";
    seen.reasoning += delta.reasoning_content ?? "";
    if (finish_reason) seen.finishes.push(finish_reason);
    for (const call of delta.tool_calls ?? []) {
      const known = (calls[call.index] ??= { name: "", arguments: "" });
      known.name += call.function.name ?? "";
      known.arguments += call.function.arguments ?? "";
    }
  }
}

async function ask(baseURL, wanted, seen) {
  const client = new OpenAI({ baseURL, apiKey: key });
  const request = { model, messages: [{ role: "user", content: prompt }] };
  if (wanted.tool) request.tools = [{ type: "function", function: tool }];
  if (!wanted.stream) {
    const answer = await client.chat.completions.create(request);
    const { message, finish_reason } = answer.choices[0];
    seen.chunks = 1;
    seen.ids.add(answer.id);
    if (answer.usage) seen.usages += 1;
    seen.text = message.content;
    seen.reasoning = message.reasoning_content ?? "";
    seen.finishes.push(finish_reason);
    return;
  }
  const calls = [];
  const stream = { ...request, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(stream)) takeChunk(seen, chunk, calls);
  for (const call of calls) seen.tool_calls.push({ name: call.name, arguments: JSON.parse(call.arguments) });
}

await run("openai (Node)", version(name), words, ask);

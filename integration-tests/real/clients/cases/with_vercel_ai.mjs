// The Vercel AI SDK with its provider for OpenAI-compatible servers.

import { key, model, packages, prompt, raised, run, tool, version } from "./contract.mjs";

const { generateText, jsonSchema, streamText } = packages("ai");
const { createOpenAICompatible } = packages("@ai-sdk/openai-compatible");

// One part of the full stream. An error is a part, too.
function takePart(seen, part) {
  seen.chunks += 1;
  switch (part.type) {
    case "text-delta":
      seen.text += part.text;
      break;
    case "reasoning-delta":
      seen.reasoning += part.text;
      break;
    case "tool-call":
      seen.tool_calls.push({ name: part.toolName, arguments: part.input });
      break;
    case "finish-step":
      seen.finishes.push(part.rawFinishReason ?? part.finishReason);
      seen.ids.add(part.response.id);
      if (part.usage.outputTokens) seen.usages += 1;
      break;
    case "error":
      seen.error = raised(part.error, "error part");
      break;
  }
}

async function ask(baseURL, wanted, seen) {
  const provider = createOpenAICompatible({ name: "aegis", baseURL, apiKey: key, includeUsage: true });
  const request = { model: provider(model), prompt };
  // Without `execute` the call ends the run.
  if (wanted.tool) request.tools = { [tool.name]: { description: tool.description, inputSchema: jsonSchema(tool.parameters) } };
  if (!wanted.stream) {
    const answer = await generateText(request);
    seen.chunks = 1;
    seen.text = answer.text;
    seen.reasoning = answer.reasoningText ?? "";
    seen.finishes.push(answer.rawFinishReason ?? answer.finishReason);
    seen.ids.add(answer.response.id);
    if (answer.usage.outputTokens) seen.usages += 1;
    return;
  }
  // The errors come as parts; by default they are also written to the console.
  const { fullStream } = streamText({ ...request, onError() {} });
  for await (const part of fullStream) takePart(seen, part);
}

await run("Vercel AI SDK", version("ai"), process.argv.slice(2), ask);

"""An agent of pydantic-ai. Its tool is one that is run elsewhere, so that the call ends the run."""

import asyncio

from contract import KEY, MODEL, PROMPT, TOOL, run
from pydantic_ai import Agent, DeferredToolRequests, ExternalToolset
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ThinkingPart, ThinkingPartDelta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition


def take_event(seen, event):
    """Takes one event of a model's answer while it streams."""
    seen.chunks += 1
    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            seen.text += text
        case PartStartEvent(part=ThinkingPart(content=text)) | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)):
            seen.reasoning += text or ""


async def take_run(agent, case, seen):
    """Runs the agent once, node by node where its answer streams."""
    async with agent.iter(PROMPT) as steps:
        async for node in steps:
            if case["stream"] and Agent.is_model_request_node(node):
                async with node.stream(steps.ctx) as stream:
                    async for event in stream:
                        take_event(seen, event)
    return steps.result


async def ask_async(url, case, seen):
    """One run of the agent."""
    tool = ToolDefinition(name=TOOL["name"], description=TOOL["description"], parameters_json_schema=TOOL["parameters"])
    agent = Agent(
        OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key=KEY)),
        output_type=[str, DeferredToolRequests],
        toolsets=[ExternalToolset([tool])] if case.get("tool") else [],
    )
    result = await take_run(agent, case, seen)
    answers = [message for message in result.all_messages() if message.kind == "response"]
    for answer in answers:
        seen.identity(answer.provider_response_id)
        seen.finish((answer.provider_details or {}).get("finish_reason"))
        seen.usages += answer.usage.output_tokens > 0
    if isinstance(result.output, DeferredToolRequests):
        for call in result.output.calls:
            seen.tool_call(call.tool_name, call.args)
        return
    if not case["stream"]:
        seen.chunks, seen.text = 1, result.output
        seen.reasoning = "".join(part.content for part in answers[-1].parts if isinstance(part, ThinkingPart))
    assert result.output == seen.text, result.output


def ask(url, case, seen):
    """The same, for the contract."""
    asyncio.run(ask_async(url, case, seen))


run("pydantic-ai", "pydantic-ai-slim", ask)

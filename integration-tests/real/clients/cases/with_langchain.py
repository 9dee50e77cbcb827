"""LangChain's ChatOpenAI."""

from contract import KEY, MODEL, PROMPT, TOOL, run
from langchain_openai import ChatOpenAI


def ask(url, case, seen):
    """One message; a stream's chunks are added up as LangChain adds them."""
    model = ChatOpenAI(base_url=url, api_key=KEY, model=MODEL, stream_usage=True)
    if case.get("tool"):
        model = model.bind_tools([{"type": "function", "function": TOOL}])
    message = None
    for chunk in model.stream(PROMPT) if case["stream"] else [model.invoke(PROMPT)]:
        seen.chunks += 1
        seen.text += chunk.content
        seen.usages += chunk.usage_metadata is not None
        seen.finish(chunk.response_metadata.get("finish_reason"))
        seen.identity(chunk.response_metadata.get("id") or chunk.id)
        message = chunk if message is None else message + chunk
    for call in message.tool_calls:
        seen.tool_call(call["name"], call["args"])
    assert message.content == seen.text and not getattr(message, "invalid_tool_calls", [])


run("LangChain", "langchain-openai", ask)

"""openai-python, blocking."""

import openai
from contract import KEY, MESSAGES, MODEL, TOOL, chunk_of_openai, run, whole_of_openai


def ask(url, case, seen):
    """One chat completion."""
    client = openai.OpenAI(base_url=url, api_key=KEY)
    request = {"model": MODEL, "messages": MESSAGES}
    if case.get("tool"):
        request["tools"] = [{"type": "function", "function": TOOL}]
    if not case["stream"]:
        return whole_of_openai(seen, client.chat.completions.create(**request))
    calls = {}
    request["stream_options"] = {"include_usage": True}
    for chunk in client.chat.completions.create(stream=True, **request):
        chunk_of_openai(seen, chunk, calls)
    for call in calls.values():
        seen.tool_call(call["name"], call["arguments"])


run("openai (Python)", "openai", ask)

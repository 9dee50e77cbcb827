"""The LiteLLM SDK, with its provider for OpenAI-compatible servers."""

import os

# Without this the import fetches a price list from the internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from contract import KEY, MESSAGES, MODEL, TOOL, chunk_of_openai, run, whole_of_openai  # noqa: E402

litellm.suppress_debug_info = True


def ask(url, case, seen):
    """One completion."""
    request = {"model": f"openai/{MODEL}", "messages": MESSAGES, "api_base": url, "api_key": KEY}
    if case.get("tool"):
        request["tools"] = [{"type": "function", "function": TOOL}]
    if not case["stream"]:
        return whole_of_openai(seen, litellm.completion(**request))
    calls = {}
    for chunk in litellm.completion(stream=True, **request):
        chunk_of_openai(seen, chunk, calls)
    for call in calls.values():
        seen.tool_call(call["name"], call["arguments"])


run("LiteLLM SDK", "litellm", ask)

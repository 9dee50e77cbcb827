"""Sends one chat request with openai-python and prints one JSON line about what the caller sees.

Usage: openai_client.py sync|async BASE_URL REQUEST_JSON
"""

import asyncio
import json
import sys

import openai


class Seen:
    """What has come of an answer so far."""

    def __init__(self):
        self.fields = {"chunks": 0, "text": "", "finish": None, "finishes": 0, "ids": [], "tools": {}}

    def chunk(self, chunk):
        """Takes one chunk of a stream."""
        self.fields["chunks"] += 1
        if chunk.id not in self.fields["ids"]:
            self.fields["ids"].append(chunk.id)
        for choice in chunk.choices:
            self.fields["text"] += choice.delta.content or ""
            self.fields["finish"] = choice.finish_reason or self.fields["finish"]
            self.fields["finishes"] += choice.finish_reason is not None
            for call in choice.delta.tool_calls or []:
                known = self.fields["tools"].setdefault(call.index, {"name": "", "arguments": ""})
                known["name"] += call.function.name or ""
                known["arguments"] += call.function.arguments or ""

    def whole(self, completion):
        """Takes the answer of a request without a stream."""
        choice = completion.choices[0]
        self.fields["text"] = choice.message.content
        self.fields["finish"] = choice.finish_reason

    def error(self, error):
        """Takes what was raised."""
        self.fields["error"] = {
            "kinds": [kind.__name__ for kind in type(error).__mro__],
            "message": str(error),
            "code": getattr(error, "code", None),
            "type": getattr(error, "type", None),
            "status": getattr(error, "status_code", None),
            "body": getattr(error, "body", None),
        }


def run_sync(url, request, seen):
    """The blocking client."""
    client = openai.OpenAI(base_url=url, api_key="none")
    answer = client.chat.completions.create(**request)
    if not request.get("stream"):
        return seen.whole(answer)
    for chunk in answer:
        seen.chunk(chunk)


async def run_async(url, request, seen):
    """The asyncio client."""
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        answer = await client.chat.completions.create(**request)
        if not request.get("stream"):
            return seen.whole(answer)
        async for chunk in answer:
            seen.chunk(chunk)


def main():
    """Runs the request; an error of the client library is a result like any other."""
    style, url, request = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    # What OpenAI's API does not know (llama-server's own switches) travels in `extra_body`.
    own = {name: request.pop(name) for name in ("cache_prompt", "ignore_eos") if name in request}
    request["extra_body"] = own
    seen = Seen()
    try:
        if style == "async":
            asyncio.run(run_async(url, request, seen))
        else:
            run_sync(url, request, seen)
    except Exception as error:  # httpx's errors are not OpenAIError: the test decides which ones are right
        seen.error(error)
    print(json.dumps(seen.fields))


main()

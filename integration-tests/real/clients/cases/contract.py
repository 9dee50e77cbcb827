"""What all Python clients have in common: their arguments, the cases they know, and the line they print for each.

Usage of every client: CLIENT BASE_URL CASE [BASE_URL CASE ...]
"""

import importlib.metadata
import json
import pathlib
import sys

_FILE = json.loads(pathlib.Path(__file__).with_name("cases.json").read_text())
PROMPT = _FILE["prompt"]
MESSAGES = [{"role": "user", "content": PROMPT}]
TOOL = _FILE["tool"]
# Clients that show a model's name take any; the key is none.
MODEL, KEY = "scripted", "none"


class Seen:
    """What a client has shown of one answer so far."""

    def __init__(self):
        self.text = ""
        self.reasoning = ""
        self.tool_calls = []
        self.finishes = []
        self.usages = 0
        self.chunks = 0
        self.ids = set()
        self.error = None

    def finish(self, reason):
        """Takes a finish reason, if there is one."""
        if reason:
            self.finishes.append(reason)

    def identity(self, name):
        """Takes an id, if there is one."""
        if name:
            self.ids.add(name)

    def tool_call(self, name, arguments):
        """Takes one whole tool call; its arguments as text or as what the client has made of them."""
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        self.tool_calls.append({"name": name, "arguments": arguments})

    def raised(self, error):
        """Takes what was raised; of an error that wraps others, the first code on the way down."""
        self.error = {"type": type(error).__name__, "message": str(error), "code": None, "carried_by": None}
        while error is not None and self.error["code"] is None:
            code = getattr(error, "code", None)
            if isinstance(code, str):
                self.error |= {"code": code, "carried_by": type(error).__name__}
            error = error.__cause__ or error.__context__


def chunk_of_openai(seen, chunk, calls):
    """Takes a chunk of openai-python's shape; `calls` collects the pieces of the tool calls by index."""
    seen.chunks += 1
    seen.identity(chunk.id)
    seen.usages += getattr(chunk, "usage", None) is not None
    for choice in chunk.choices:
        delta = choice.delta
        seen.text += delta.content or ""
        seen.reasoning += getattr(delta, "reasoning_content", None) or ""
        seen.finish(choice.finish_reason)
        for call in delta.tool_calls or []:
            known = calls.setdefault(call.index, {"name": "", "arguments": ""})
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""


def whole_of_openai(seen, completion):
    """Takes a whole answer of openai-python's shape."""
    choice = completion.choices[0]
    seen.chunks = 1
    seen.identity(completion.id)
    seen.usages += completion.usage is not None
    seen.text = choice.message.content
    seen.reasoning = getattr(choice.message, "reasoning_content", None) or ""
    seen.finish(choice.finish_reason)


def run(client, package, ask):
    """Runs `ask(url, case, seen)` for each case of the command line. What is raised is a result like any other."""
    arguments = sys.argv[1:]
    for url, name in zip(arguments[::2], arguments[1::2], strict=True):
        seen = Seen()
        case = _FILE["cases"][name] | {"name": name}
        try:
            ask(url, case, seen)
        except Exception as error:
            seen.raised(error)
        version = importlib.metadata.version(package)
        line = {"client": client, "version": version, "case": name} | vars(seen)
        print(json.dumps(line | {"ids": len(seen.ids)}), flush=True)

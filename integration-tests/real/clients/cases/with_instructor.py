"""instructor: an object of a given shape instead of text; partial objects while it streams.

Its own retries are off: they would hide a fault that reached it.
"""

import instructor
import openai
from contract import KEY, MESSAGES, MODEL, run
from pydantic import BaseModel


class River(BaseModel):
    """A river."""

    name: str
    length_km: int
    countries: list[str]


def ask(url, case, seen):
    """One river: as a JSON answer, or as the arguments of a tool call."""
    mode = instructor.Mode.TOOLS if case.get("tool") else instructor.Mode.JSON_SCHEMA
    client = instructor.from_openai(openai.OpenAI(base_url=url, api_key=KEY), mode=mode)
    request = {"model": MODEL, "messages": MESSAGES, "response_model": River, "max_retries": 0}
    if not case["stream"]:
        river, completion = client.chat.completions.create_with_completion(**request)
        seen.chunks = 1
        seen.identity(completion.id)
        seen.finish(completion.choices[0].finish_reason)
    else:
        river = None
        for river in client.chat.completions.create_partial(**request):
            seen.chunks += 1
            seen.text = river.model_dump_json()
    # The last partial object has to be a whole one.
    seen.text = River.model_validate(river.model_dump()).model_dump_json()


run("instructor", "instructor", ask)

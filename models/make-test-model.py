#!/usr/bin/env python3
"""Generate the small chat model that the real-server tests run on.

The result is a valid GGUF file (about 4 MB) of the llama architecture that llama-server loads like any
other model. It is not a language model worth talking to; it has exactly the properties the tests need:

* Its text looks like English, because its embeddings are a low-rank factorisation of the bigram table of
  texts that every Debian machine already has. Nothing is downloaded and no weights are committed.
* At temperature 0 it runs into loops, as large models do. At temperature 1 it rambles.
* Two small random transformer layers make every logit depend on the whole context, so that a wrong KV
  cache or a wrong prefix changes the text.
* With tools in the request it opens a Hermes `<tool_call>`, which the server's grammar then completes.

How a bigram fits into a llama model: the residual stream after the embedding lookup goes through a final
RMS norm and the output matrix. If all embeddings have the same length the norm is a constant factor, and
logits are plain dot products `embedding[current] . output[next]`. Six columns are set apart: four forced
transitions, one that pads every embedding to the common length, and one that is constant and so carries
a bias for each output token.

Usage: make-test-model.py OUT.gguf
Beside OUT.gguf it writes `think.jinja`, a chat template that opens a `<think>` block, for the tests of
the reasoning channel (`llama-server --chat-template-file think.jinja --reasoning-budget N`).
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 2048
WIDTH = 256  # embedding length; the last six columns are the reserved ones below
RANK = WIDTH - 6
FORCED, PADDING, CONSTANT = slice(RANK, RANK + 4), RANK + 4, RANK + 5
LAYERS = 2
HEADS, HEAD_WIDTH = 2, 32  # one key/value head: long contexts stay cheap
FEED_FORWARD = 2 * WIDTH
CONTEXT = 131072  # in tokens
LAYER_SCALE = 0.06  # size of what the layers add, relative to an embedding: enough to matter, too little to drown the bigram
SEED = 20240229

# Control tokens first: their ids are 0..3 and are never printed. The others are ordinary text to the server.
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|call|>"]
MARKUP = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
SPECIAL = CONTROL + MARKUP

# ChatML. With tools, the prompt's last token is <|call|>, after which this model always opens a <tool_call>.
CHAT_TEMPLATE = r"""
{%- macro turn(role, text) %}{{ '<|im_start|>' ~ role ~ '\n' ~ text ~ '<|im_end|>\n' }}{% endmacro %}
{%- set first = messages[0].content if messages[0].role == 'system' else '' %}
{%- if tools %}
    {{- '<|im_start|>system\n' ~ (first ~ '\n\n' if first else '') ~ 'Functions you can call, one JSON signature on each line between <tools></tools>:\n<tools>' }}
    {%- for tool in tools %}{{- '\n' ~ (tool | tojson) }}{%- endfor %}
    {{- '\n</tools>\nA call is a JSON object with the function\'s name and its arguments, between <tool_call></tool_call>:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n' }}
{%- elif first %}
    {{- turn('system', first) }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and loop.first %}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' ~ ('\n' ~ message.content if message.content else '') }}
        {%- for call in message.tool_calls %}
            {%- set function = call.function if call.function is defined else call %}
            {{- '\n<tool_call>\n{"name": "' ~ function.name ~ '", "arguments": ' ~ (function.arguments | tojson) ~ '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- turn('user', '<tool_response>\n' ~ message.content ~ '\n</tool_response>') }}
    {%- else %}
        {{- turn(message.role, message.content) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' ~ ('<|call|>' if tools else '') }}
{%- endif %}
""".strip()

# The same without tools and with an open think block, as reasoning models' templates have it.
THINK_TEMPLATE = r"""
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\n' }}
    {%- if message.role == 'assistant' and message.reasoning_content %}
        {{- '<think>\n' ~ message.reasoning_content ~ '\n</think>\n\n' }}
    {%- endif %}
    {{- (message.content or '') ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n<think>\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '\n</think>\n\n' }}{%- endif %}
{%- endif %}
""".strip()


@dataclass
class Embeddings:
    """The two ends of the model: `read` (vocabulary x width) looks tokens up, `write` (same shape) scores
    the next one. `square` is the squared length that all rows of `read` have."""

    read: np.ndarray
    write: np.ndarray
    square: float


def tidy(text: str) -> str:
    """Running prose in plain ASCII: one line for each paragraph of more than 80 characters, tables and
    drawings reduced to their words, no runs of spaces or of punctuation."""
    paragraphs = re.split(r"\n\s*\n", text.encode("ascii", "ignore").decode())
    lines = []
    for paragraph in paragraphs:
        if len(paragraph) <= 80:
            continue
        words = re.sub(r"[^A-Za-z0-9,.;:!?]+", " ", paragraph).strip()
        lines.append(re.sub(r"[ ,.;:!?]*([,.;:!?])", r"\1", words))
    return "\n".join(lines)


def corpus() -> list[str]:
    """The language reference that ships with Python, and Debian's licence texts where there are any."""
    texts = [topics[name] for name in sorted(topics)]
    licences = Path("/usr/share/common-licenses")
    if licences.is_dir():
        files = sorted({path.resolve() for path in licences.iterdir()})
        texts += [path.read_text(encoding="utf-8", errors="ignore") for path in files]
    return [tidy(text) for text in texts] + [sample_calls(400)]


def sample_calls(count: int) -> str:
    """Tool calls with made-up words: JSON has to be in the corpus, or the model pads it with white space."""
    random = np.random.default_rng(SEED)
    words = ["city", "name", "path", "query", "days", "unit", "text", "file"]

    def one() -> str:
        chosen = random.choice(words, size=int(random.integers(1, 4)), replace=False)
        arguments = {str(key): str(random.choice(words)) for key in chosen}
        return json.dumps({"name": str(random.choice(words)), "arguments": arguments})

    return "".join(one() + "\n" for _ in range(count))


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE: 8 special tokens, the 256 bytes, and as many merges as the vocabulary has room for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bigram_probabilities(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """`(table, unigram)`: the smoothed probability of each next token after each token, and on its own."""
    size = tokenizer.get_vocab_size()
    counts = np.zeros((size, size))
    for text in texts:
        ids = np.array(tokenizer.encode(text).ids)
        np.add.at(counts, (ids[:-1], ids[1:]), 1.0)
    unigram = counts.sum(axis=0) + 0.05
    unigram /= unigram.sum()
    table = counts + 2.0 * unigram
    table /= table.sum(axis=1, keepdims=True)

    # A full stop may end the answer, so that sampling stops by itself at times and greedy decoding never does.
    stops = [i for i in range(size) if tokenizer.decode([i]).rstrip().endswith(".")]
    table[stops, SPECIAL.index("<|im_end|>")] = 0.03
    newline = tokenizer.token_to_id("Ċ")
    table[:, newline] = np.minimum(table[:, newline], 0.02)
    # JSON starts a line only where a grammar leaves no better choice: plain answers shall stay prose.
    opening = tokenizer.token_to_id('{"')
    if opening is None:
        sys.exit("the tokenizer did not learn the start of a JSON object: the corpus holds too few sample calls")
    table[newline, opening] = 0.003
    return table, unigram


def factorise(table: np.ndarray, unigram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-`RANK` factors of the pointwise mutual information, fitted best where tokens are frequent."""
    weight = np.sqrt(unigram)
    scaled = weight[:, None] * (np.log(table) - np.log(unigram)) * weight[None, :]
    left, strength, right = np.linalg.svd(scaled, full_matrices=False)
    root = np.sqrt(strength[:RANK])
    return left[:, :RANK] * root / weight[:, None], right[:RANK].T * root / weight[:, None]


def output_bias(tokenizer: Tokenizer, unigram: np.ndarray) -> np.ndarray:
    """Log unigram probability, with everything but printable ASCII, newline and the end of turn pushed away."""

    def printable(token: int) -> bool:
        text = tokenizer.decode([token]).encode()
        return token >= len(SPECIAL) and all(byte == 10 or 32 <= byte < 127 for byte in text)

    allowed = np.array([printable(i) for i in range(len(unigram))])
    allowed[SPECIAL.index("<|im_end|>")] = True
    return np.log(unigram) + np.where(allowed, 0.0, -30.0)


def build_embeddings(tokenizer: Tokenizer, texts: list[str]) -> Embeddings:
    """Bigram factors, forced transitions, padding and bias, put into their columns."""
    table, unigram = bigram_probabilities(tokenizer, texts)
    reading, writing = factorise(table, unigram)

    # A few very long rows (rare tokens) would force all others to be padded far: shorten them.
    lengths = np.linalg.norm(reading, axis=1)
    longest = np.quantile(lengths, 0.9975)
    reading *= np.minimum(1.0, longest / np.maximum(lengths, 1e-9))[:, None]
    constant = longest / 2

    size = len(unigram)
    read, write = np.zeros((size, WIDTH)), np.zeros((size, WIDTH))
    read[:, :RANK], write[:, :RANK] = reading, writing
    token = tokenizer.token_to_id
    closing = [i for i in range(size) if tokenizer.decode([i]).endswith("}")]
    transitions = [  # tokens, the one that follows them, its lead in logits, how much of the bigram is kept
        ([token("<|call|>")], token("<tool_call>"), 60.0, 0.0),
        ([token("<tool_call>")], token("Ċ"), 60.0, 0.0),
        ([token("</tool_call>")], token("<|im_end|>"), 60.0, 0.0),
        (closing, token("</tool_call>"), 60.0, 0.5),
    ]
    for column, (sources, target, lead, kept) in zip(range(RANK, RANK + 4), transitions):
        read[sources, :RANK] *= kept
        read[sources, column] = constant
        write[target, column] = lead / constant
    square = 2.0 * longest**2
    read[:, CONSTANT] = constant
    read[:, PADDING] = np.sqrt(square - (read**2).sum(axis=1))
    write[:, CONSTANT] = output_bias(tokenizer, unigram) / constant
    return Embeddings(read, write, square)


def layer_tensors(index: int, scale: float, random: np.random.Generator) -> dict[str, np.ndarray]:
    """One block of random attention and feed-forward weights whose output has about the length `scale`.
    Nothing is written to the constant column, so the bias stays what it is."""

    def matrix(rows: int, columns: int, factor: float = 1.0) -> np.ndarray:
        return random.normal(size=(rows, columns)) * (factor / np.sqrt(columns))

    queries = HEADS * HEAD_WIDTH
    attention_out, feed_out = matrix(WIDTH, queries, scale), matrix(WIDTH, FEED_FORWARD, scale)
    attention_out[CONSTANT] = feed_out[CONSTANT] = 0.0
    tensors = {
        "attn_norm": np.ones(WIDTH),
        "attn_q": matrix(queries, WIDTH, 2.0),
        "attn_k": matrix(HEAD_WIDTH, WIDTH, 2.0),
        "attn_v": matrix(HEAD_WIDTH, WIDTH),
        "attn_output": attention_out,
        "ffn_norm": np.ones(WIDTH),
        "ffn_gate": matrix(FEED_FORWARD, WIDTH),
        "ffn_up": matrix(FEED_FORWARD, WIDTH),
        "ffn_down": feed_out,
    }
    return {f"blk.{index}.{name}.weight": value for name, value in tensors.items()}


def write_metadata(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Architecture, tokenizer and chat template, under the keys llama.cpp reads."""
    writer.add_name("aegis-test-bigram")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_key_length(HEAD_WIDTH)
    writer.add_value_length(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    kinds = [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.USER_DEFINED] * len(MARKUP)
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_pad_token_id(SPECIAL.index("<|endoftext|>"))
    writer.add_eos_token_id(SPECIAL.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_model(path: Path, tokenizer: Tokenizer, embeddings: Embeddings) -> None:
    """Writes the GGUF file: matrices as 16-bit floats, norms as 32-bit floats."""
    writer = gguf.GGUFWriter(str(path), "llama")
    write_metadata(writer, tokenizer)
    # RMS norm divides by length/sqrt(width); the last norm's gain undoes that, the layers' scale follows it.
    gain = np.sqrt(embeddings.square / WIDTH)
    tensors = {
        "token_embd.weight": embeddings.read,
        "output_norm.weight": np.full(WIDTH, gain),
        "output.weight": embeddings.write,
    }
    random = np.random.default_rng(SEED)
    for index in range(LAYERS):
        tensors |= layer_tensors(index, LAYER_SCALE * gain, random)
    for name, value in tensors.items():
        kind = np.float32 if value.ndim == 1 else np.float16
        writer.add_tensor(name, np.ascontiguousarray(value, dtype=kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Writes the model and the template; a half-written model never has the final name."""
    if len(sys.argv) != 2:
        sys.exit("usage: make-test-model.py OUT.gguf")
    out = Path(sys.argv[1])
    texts = corpus()
    tokenizer = train_tokenizer(texts)
    embeddings = build_embeddings(tokenizer, texts)
    partial = out.with_suffix(".partial")
    write_model(partial, tokenizer, embeddings)
    os.replace(partial, out)
    out.with_name("think.jinja").write_text(THINK_TEMPLATE, encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {tokenizer.get_vocab_size()} tokens, width {WIDTH}, {LAYERS} layers")


if __name__ == "__main__":
    main()

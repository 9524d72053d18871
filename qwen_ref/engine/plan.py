"""How much memory an answer takes, and about how long it: said before anything of the model is loaded.

Arrays have sizes that follow from the file's header, part by part; what Python and its libraries take was
measured. tests/benchmarks/memory.py has the peaks of processes beside these sums.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gguf_io import GGUFFile
from qwen_ref.config import TEMPORAL_PATCH_SIZE, Config, VisionConfig, read_config, read_vision_config
from qwen_ref.engine import best_threads
from qwen_ref.engine.backend import choose_layers, most_threads
from qwen_ref.engine.prefixes import default_budget
from qwen_ref.engine.sequence import PREFILL_BLOCK
from qwen_ref.errors import QwenRefError, tell
from qwen_ref.machine import available_memory
from qwen_ref.model.cache_types import BLOCK, PLAIN, row_bytes
from qwen_ref.model.matrix import Budget, Matrix
from qwen_ref.model.text import TextModel
from qwen_ref.model.vision import vision_work
from qwen_ref.model.weights import VISION_PARTS, matrices

MIB = 1 << 20
SMALLER = ("q8_0", "q8_0")  # types of a cache, where float16 does not fit


class MEASURED:
    """RssAnon and RssFile (/proc/PID/status) of processes of `generate`, by tests/benchmarks/memory.py, on
    x86-64 with Python 3.11 and Numba 0.68, less what is computed here. The small model and 0.8B with 16
    tokens tell what goes with the vocabulary from what does not."""

    LIBRARIES = 128 * MIB  # Python, NumPy, Numba, LLVM and the kernels' code: 57 private, 71 of their files
    PICTURES = 3 * MIB  # Pillow and qwen_ref.media
    TOKEN = 52  # bytes for each of the vocabulary: its text, and the sampler's copies of a logit
    TOKENIZER = 340  # the same of the library's tokenizer, which `generate` has in a process beside
    GAPS = 1.15  # of activations: malloc's blocks between those that are in use
    PIXEL = 19  # bytes for each of a picture as the tower sees it: copies of Pillow's and NumPy's
    FAULT = 1 << 16  # bytes of a file that come with the first one touched


class Part(NamedTuple):
    name: str
    nbytes: int
    of_file: bool = False  # pages that the system can drop, and read again


@dataclass(frozen=True)
class Job:
    """What is to be answered: `context` tokens of prompt and answer, pictures' included; `parallel` times at
    once, of which one prompt is read and one picture seen at a time."""

    file: GGUFFile
    context: int
    vision: GGUFFile | None = None
    image: tuple[int, int] | None = None  # width and height of the one picture, as it lies in its file
    max_image_tokens: int | None = None
    threads: int = 1
    block: int = PREFILL_BLOCK
    cache_types: tuple[str, str] = PLAIN  # of keys and of values
    parallel: int = 1

    @functools.cached_property
    def config(self) -> Config:
        return read_config(self.file)


# ---- memory


@dataclass(frozen=True)
class Needs:
    """What an answer takes, in bytes. The picture is looked at before the prompt is read: of `looking` and
    `reading` the larger one counts."""

    always: list[Part]
    looking: list[Part]
    reading: list[Part]

    @property
    def total(self) -> int:
        return size(self.always) + max(size(self.looking), size(self.reading))

    @property
    def private(self) -> int:
        """Of it what must stay in memory: without this nothing works, without the rest it is slow."""
        return self.total - size([part for part in self.always if part.of_file])


def size(parts: list[Part]) -> int:
    return sum(part.nbytes for part in parts)


def needs(job: Job) -> Needs:
    """Raises QwenRefError if the file is no Qwen3.5 model, or the kernels do not fit it: NumPy keeps weights
    as floats, as many as there is room for."""
    c = job.config
    layers = choose_layers(c, "numba", np.float32)
    always = [
        Part("Python and libraries", MEASURED.LIBRARIES),
        Part("vocabulary", MEASURED.TOKEN * c.vocab_size),
        Part("weights, pages of the file", text_pages(job), of_file=True),
        Part("DeltaNet state", job.parallel * layers.new_state(c, np.float32).nbytes),
    ]
    reading = [
        Part(
            f"KV cache, {name_of(job.cache_types)}",
            job.parallel * cache_bytes(c, job.context, job.cache_types),
        ),
        Part("activations of a block", activation_bytes(c, min(job.block, job.context))),
    ]
    if job.image is None:
        return Needs(always, [], reading)
    v, grid = seen(job)
    assert job.vision is not None
    floats = vision_floats(job.vision, v)
    always += [
        Part("pictures' libraries", MEASURED.PICTURES),
        Part("vision tower, pages of the file", vision_pages(job.vision), of_file=True),
        Part("vision tower, as floats", floats),
        Part("the picture", 4 * job.image[0] * job.image[1] + image_tokens(v, grid) * v.out_hidden_size * 4),
    ]
    return Needs(
        always, [Part("activations of the vision tower", looking_bytes(v, grid, job.threads))], reading
    )


def text_pages(job: Job) -> int:
    """Bytes of the file that an answer reads: all but a tower's, and of embeddings that are no output matrix
    the rows of its tokens."""
    tensors = job.file.tensors
    touched = {name: t.nbytes for name, t in tensors.items() if not name.startswith(VISION_PARTS)}
    if "output.weight" in tensors:
        touched["token_embd.weight"] = min(touched["token_embd.weight"], job.context * MEASURED.FAULT)
    return sum(touched.values()) + min(t.offset for t in tensors.values())


def name_of(cache_types: tuple[str, str]) -> str:
    k, v = ("float16" if kind == "f16" else kind for kind in cache_types)
    return k if k == v else f"{k} keys and {v} values"


def token_bytes(c: Config, cache_types: tuple[str, str]) -> int:
    """Of one token's key and value in one layer."""
    return c.num_key_value_heads * sum(row_bytes(kind, c.head_dim) for kind in cache_types)


def cache_bytes(c: Config, context: int, cache_types: tuple[str, str] = PLAIN) -> int:
    """Keys and values of so many tokens. While caches grow, by half, one layer's is there twice
    (kernels/cache.py)."""
    layers = sum(c.is_full_attention(i) for i in range(c.num_layers)) + c.num_mtp_layers
    room, most = 0, layers * context
    for stop in range(min(PREFILL_BLOCK, context), context + PREFILL_BLOCK, PREFILL_BLOCK):
        if (length := min(stop, context)) > room:
            before, room = room, -(-max(length, room + room // 2, 256) // 64) * 64
            most = max(most, (layers + 1) * min(before, length))
    return token_bytes(c, cache_types) * most


def quantized_bytes(columns: int) -> int:
    """Of one row of activations in 8 bits, with its scales and sums (kernels/quantize.py)."""
    return columns + columns // 32 * 4 + columns // 16 * 4 + columns // 32 * 4


def activation_bytes(c: Config, tokens: int) -> int:
    """Of a block of a prompt, where most is alive at once: inside one of the three kinds of layers."""
    q_heads = c.num_attention_heads * c.head_dim
    attention = 4 * (4 * q_heads + 2 * c.num_key_value_heads * c.head_dim) + quantized_bytes(q_heads)
    deltanet = 4 * (2 * c.conv_channels + 3 * c.value_dim) + quantized_bytes(c.value_dim)
    mlp = 4 * 2 * c.intermediate_size + quantized_bytes(c.intermediate_size)
    stream = 4 * 3 * c.hidden_size + quantized_bytes(c.hidden_size)  # before, normed, after
    return int(MEASURED.GAPS * tokens * (stream + max(attention, deltanet, mlp)))


def seen(job: Job) -> tuple[VisionConfig, tuple[int, int]]:
    """The tower's configuration, and how many patches down and across it sees. Raises QwenRefError."""
    from qwen_ref.media.media import resized

    assert job.image is not None and job.vision is not None
    v, (width, height) = read_vision_config(job.vision), job.image
    (height, width), _, _ = resized(height, width, v, job.max_image_tokens)
    return v, (height // v.patch_size, width // v.patch_size)


def image_tokens(v: VisionConfig, grid: tuple[int, int]) -> int:
    return grid[0] * grid[1] // v.spatial_merge_size**2


def vision_pages(file: GGUFFile) -> int:
    return sum(tensor.nbytes for tensor in file.tensors.values())


def vision_floats(file: GGUFFile, v: VisionConfig) -> int:
    """What becomes float32 when the tower is opened, and when they are used matrices without a kernel, of
    which at most 1 GiB is kept (Model.vision)."""
    from qwen_ref.kernels.layers import lacks_kernel

    kernels = 4 * v.hidden_size * 3 * TEMPORAL_PATCH_SIZE * v.patch_size**2
    table = file.tensors["v.position_embd.weight"].shape[0] if "v.position_embd.weight" in file.tensors else 0
    matrices = [t for name, t in file.tensors.items() if len(t.shape) == 2 and "position_embd" not in name]
    others = sum(4 * t.shape[0] * t.shape[1] for t in matrices if lacks_kernel(Matrix(t, Budget(0))))
    return kernels + 4 * table * v.hidden_size + min(1 << 30, others)


def sees_by_integers(file: GGUFFile) -> bool:
    """Do the kernels multiply the tower's matrices, most of them, in 8 bits?"""
    from qwen_ref.kernels.layers import by_integers

    tensor = file.tensors.get("v.blk.0.ffn_up.weight")
    return tensor is not None and by_integers(Matrix(tensor, Budget(0)))


def looking_bytes(v: VisionConfig, grid: tuple[int, int], threads: int) -> int:
    """Of the tower with all patches of a picture in it, where they are embedded or within attention
    (kernels/vision.py)."""
    from qwen_ref.kernels.vision import PIECE, TOGETHER

    n, hidden, inner = grid[0] * grid[1], v.hidden_size, v.intermediate_size
    pixels = 4 * 3 * TEMPORAL_PATCH_SIZE * v.patch_size**2  # of a patch
    embedding = pixels + 4 * hidden  # packed for the product
    attention = 4 * (6 * hidden + v.head_dim)  # x, normed, queries, keys, values, what they give; cos and sin
    piece = 4 * (hidden + inner) + quantized_bytes(hidden) + quantized_bytes(inner)
    each = pixels + MEASURED.PIXEL * v.patch_size**2 + max(embedding, attention)
    return n * each + TOGETHER * piece + threads * 4 * 32 * PIECE


def tokenizer_bytes(job: Job) -> int:
    return MEASURED.TOKENIZER * job.config.vocab_size


def kept_bytes(job: Job, available: int) -> list[Part]:
    """What a chat and a server hold besides: the tokenizer, and at most so much of what was read before."""
    return [
        Part("tokenizer", tokenizer_bytes(job)),
        Part("kept prefixes, at most (--keep)", default_budget(available)),
    ]


def snapshot_bytes(c: Config, tokens: int, cache_types: tuple[str, str] = PLAIN) -> int:
    """Of a kept prefix: the state, and keys and values of its tokens."""
    state = choose_layers(c, "numba", np.float32).new_state(c, np.float32).nbytes
    layers = sum(c.is_full_attention(i) for i in range(c.num_layers))
    return state + tokens * layers * token_bytes(c, cache_types)


# ---- what would fit


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, where smaller ones do too; 0 if none does."""
    if fits(most):  # as mostly
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def can_be_smaller(job: Job) -> bool:
    return job.cache_types == PLAIN and job.config.head_dim % BLOCK == 0


def advice(job: Job, memory: int, slowly: bool = False) -> list[str]:
    """What would make it fit, or `slowly`, where it does not: each alone is enough; else what is together."""

    def fits(changed: Job) -> bool:
        need = needs(changed)
        return (need.private if slowly else need.total) <= memory

    def longest(changed: Job) -> int:
        return largest(lambda n: fits(replace(changed, context=n)), changed.context)

    found = []
    if context := longest(job):
        found.append(f"--context {context}")
    if parallel := largest(lambda n: fits(replace(job, parallel=n)), job.parallel - 1):
        found.append(f"--parallel {parallel}")
    small = "--cache-type-k q8_0 --cache-type-v q8_0"
    if can_be_smaller(job) and fits(replace(job, cache_types=SMALLER)):
        found.append(small)
    tokens = 0 if job.image is None else image_tokens(*seen(job))
    if job.image is not None:
        if most := largest(lambda n: fits(replace(job, max_image_tokens=n)), tokens):
            found.append(f"--max-image-tokens {most}")
        if fits(replace(job, image=None)):
            found.append("no picture")
    over, weights = needs(job).total - memory, text_pages(job)
    if over < weights and not slowly:
        found.append(f"a model file of at most {(weights - over) // MIB:,} MiB instead of {weights // MIB:,}")
    if found:
        return found
    together = ["--parallel 1"] if job.parallel > 1 else []
    job = replace(job, parallel=1)
    if can_be_smaller(job):
        job, together = replace(job, cache_types=SMALLER), [*together, small]
    if job.image is not None:
        smaller = replace(job, max_image_tokens=min(tokens, SMALL_PICTURE))
        if longest(smaller):
            job, together = smaller, [*together, f"--max-image-tokens {smaller.max_image_tokens}"]
        else:
            job, together = replace(job, image=None, max_image_tokens=None), [*together, "no picture"]
    if (context := longest(job)) < job.context:
        together.append(f"--context {context}")
    return [" ".join(together)] if context else []


def verdict(job: Job, memory: int, besides: int = 0) -> str:
    """One sentence: whether it fits beside `besides` bytes of other things, and what would."""
    need, room, have = needs(job), memory - besides, f"{memory // MIB:,} MiB"
    total, private = (f"{(n + besides) / MIB:,.0f}" for n in (need.total, need.private))
    if need.total <= room:
        return f"fits: {total} of {have}"
    would, how = advice(job, room), "fit"
    if not would and need.private > room:
        would, how = advice(job, room, slowly=True), "fit, but slowly"
    told = f"what would {how}: {'; '.join(would)}" if would else "nothing smaller of this file would"
    if need.private <= room:
        return (
            f"fits, but slowly: {total} MiB are more than {have}, so weights are read from the disk again "
            f"for each token; {told}"
        )
    return f"does not fit: {private} MiB without the weights are more than {have}; {told}"


# ---- time


@dataclass(frozen=True)
class Speed:
    name: str
    reads: float  # bytes a second, of plain reading
    products: float  # products a second of a prompt's tokens with weights in 8 bits and fewer
    floats: float  # the same of float32, in attention and the vision tower


# Models, not measurements. Reading: what others decoded with there (a 2B in Q4_K_M: 7.8 to 9.3 t/s with
# ik_llama.cpp on a Pi 5, 2.4 with llama.cpp on a Pi 4). Products and floats: what tests/arm64/assembly.py
# counts for four cores, 179e9 and 58e9 of a Pi 5, divided by 1.5 and 1.3: where kernels were timed they took
# 1.3 times as long as counted, and of a picture's time products are only most. Others' prompts on a Pi 5:
# 53e9 in llama.cpp (2B, 27.8 t/s), 110e9 in MNN (4B, 27.6).
BOARDS = {
    "pi5": Speed("a Raspberry Pi 5 (by a model, not measured)", 10e9, 120e9, 45e9),
    "pi4": Speed("a Raspberry Pi 4 (by a model, not measured)", 4e9, 18e9, 18e9),
}
OF_READING = 0.8  # decoding reaches 78 to 88 % of plain reading (tests/benchmarks/RESULTS.md)


def measure(file: GGUFFile, threads: int) -> Speed:
    """This machine, in about a second: its memory, the file's first layers with a small block of tokens, and
    a product as in the vision tower. Kernels that are not there yet are compiled."""
    import numba

    from qwen_ref.profile import read_bandwidth

    c = read_config(file)
    network = TextModel(file, np.float32, 0, choose_layers(c, "numba", np.float32))
    some = network.weights.layers[: c.full_attention_interval]
    matrix: np.ndarray = np.zeros((768, 3, TEMPORAL_PATCH_SIZE, 16, 16), np.float32)
    rows: np.ndarray = np.zeros((256, matrix[0].size), np.float32)

    def embed() -> None:
        network.layers.patch_embed(rows, matrix, matrix[:, 0, 0, 0, 0])

    products = best_threads.BLOCK * sum(
        m.shape[0] * m.shape[1] for w in some for m in (*matrices(w.mixer), *matrices(w.mlp))
    )
    floats, read = len(rows) * matrix.size, best_threads.first_layers(network, best_threads.BLOCK)
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, most_threads()))
    try:
        return Speed("this machine", read_bandwidth(), products / seconds(read), floats / seconds(embed))
    finally:
        numba.set_num_threads(before)


def seconds(call: Callable[[], object]) -> float:
    """The least of three, after one that loads or compiles."""
    call()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


@dataclass(frozen=True)
class Times:
    """About how many seconds a picture and prompts take, and tokens a second of an answer."""

    picture: float | None
    short_prompt: float  # of SHORT tokens, or of the context if that is less
    whole_prompt: float  # as long as the context
    first_rate: float
    last_rate: float  # at the context's end


SHORT = 1000
MOST_IMAGE_TOKENS = 16_384  # Qwen's


def times(job: Job, speed: Speed) -> Times:
    c, tensors = job.config, job.file.tensors
    output = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    blocks = tuple(f"blk.{i}." for i in range(c.num_layers))
    layers = [t for name, t in tensors.items() if name.startswith(blocks) and len(t.shape) == 2]
    attention = sum(c.is_full_attention(i) for i in range(c.num_layers))

    def prompt(n: int) -> float:
        pairs = n * n / 2 * attention * 2 * c.num_attention_heads * c.head_dim
        return n * sum(t.shape[0] * t.shape[1] for t in layers) / speed.products + pairs / speed.floats

    def rate(before: int) -> float:
        # what a token reads; DeltaNet's state is written, too
        moved = sum(t.nbytes for t in layers) + tensors[output].nbytes + 2 * snapshot_bytes(c, 0)
        seen = snapshot_bytes(c, before, job.cache_types) - snapshot_bytes(c, 0)
        return OF_READING * speed.reads / (moved + seen)

    picture = None
    if job.image is not None:
        v, (h, w) = seen(job)
        assert job.vision is not None
        products, pairs = vision_work(v, (1, h, w))
        by = speed.products if sees_by_integers(job.vision) else speed.floats
        picture = products / by + pairs / speed.floats
    return Times(picture, prompt(min(SHORT, job.context)), prompt(job.context), rate(0), rate(job.context))


# ---- a limit, and what is chosen by it

BLOCKS = PREFILL_BLOCK, 256, 128, 64
LEAST_CONTEXT = 4096  # unless the user wants less
LEAST_PICTURE = 16  # tokens
SMALL_PICTURE = 196  # tokens, of 448 x 448 pixels


@dataclass(frozen=True)
class Choice:
    """How a model is loaded into so much memory."""

    context: int
    parallel: int
    cache_types: tuple[str, str]
    block: int
    keep: int
    max_image_tokens: int | None  # None: there is no vision file
    sentence: str


def chosen(
    job: Job,
    vision: Callable[[], GGUFFile | None],
    limit: int | None,
    context: int | None,
    cache_types: tuple[str, str] | None = None,
    fewer: bool = False,
) -> Choice | None:
    """How to load a model: by the limit that was given, else by what is free, if that is too little for
    ordinary answers. None: nothing needs to be chosen. Only else is the vision file looked for.

    Raises QwenRefError as `choose` does, but of what is free there is only a warning: it may become more.
    """
    if limit is not None:
        return choose(replace(job, vision=vision()), limit, context, cache_types, fewer)
    free, most = available_memory(), job.config.context_length
    ordinary = replace(
        job, context=context or min(LEAST_CONTEXT, most), cache_types=cache_types or PLAIN, image=None
    )
    if needs(ordinary).total <= free - tokenizer_bytes(job):
        return None
    try:
        return choose(replace(job, vision=vision()), free, context, cache_types, fewer, "free memory")
    except QwenRefError as error:
        tell(f"{error}; it is tried all the same")
        return None


def picture_limit(job: Job) -> int | None:
    """How many tokens a picture may have by what is free, and a warning; None: the largest has room."""
    free = available_memory()
    ordinary = replace(job, context=min(LEAST_CONTEXT, job.context), image=None)
    room = free - tokenizer_bytes(job)
    tokens = MOST_IMAGE_TOKENS if job.vision is None else largest_picture(ordinary, room)
    if tokens == MOST_IMAGE_TOKENS:
        return None
    tell(f"free memory of {free // MIB:,} MiB: pictures of at most {tokens:,} tokens")
    return tokens


def largest_picture(job: Job, room: int) -> int:
    """In tokens, at least LEAST_PICTURE. The text's weights may go meanwhile, and are read again once."""
    assert job.vision is not None
    tower = vision_pages(job.vision)

    def fits(tokens: int) -> bool:
        side = 32 * math.isqrt(tokens)
        return needs(replace(job, image=(side, side), max_image_tokens=tokens)).private + tower <= room

    return max(LEAST_PICTURE, largest(fits, MOST_IMAGE_TOKENS))


def choose(
    job: Job,
    memory: int,
    context: int | None,
    cache_types: tuple[str, str] | None = None,
    fewer: bool = False,
    name: str = "memory limit",
) -> Choice:
    """The largest block of a prompt that fits, a quarter of what is left for what was read, and the longest
    context (unless it is given) and the largest picture that fit into the rest, one at a time. The tokenizer
    counts. Keys and values are float16 unless types are given, or a context with which only q8_0 fits. If
    `fewer` answers at once may do, there are so many as leave the largest block, and room to keep what was
    read for one.

    Raises QwenRefError, with what would fit, if not even the smallest block does.
    """
    most = job.config.context_length
    start = min(LEAST_CONTEXT, most) if context is None else context
    room = memory - tokenizer_bytes(job)
    job = replace(job, cache_types=cache_types or PLAIN)
    kinds = [job.cache_types]
    if context is not None and cache_types is None and can_be_smaller(job):
        kinds.append(SMALLER)

    def least(context: int, block: int) -> Job:
        return replace(job, context=context, block=block, image=None, max_image_tokens=None)

    asked = job.parallel
    one = min(snapshot_bytes(job.config, start, job.cache_types), default_budget(memory))
    while fewer and job.parallel > 1 and default_budget(room - needs(least(start, BLOCKS[0])).total) < one:
        job = replace(job, parallel=job.parallel // 2)
    tried = [replace(least(start, block), cache_types=kind) for kind in kinds for block in BLOCKS]
    fitting = (one for one in tried if needs(one).total <= room)
    slowly = (one for one in tried[len(BLOCKS) - 1 :: len(BLOCKS)] if needs(one).private <= room)
    found = next(itertools.chain(fitting, slowly), None)
    if found is None:
        raise QwenRefError(f"{name}: {verdict(tried[-1], memory, tokenizer_bytes(job))}")
    smallest, block, job = needs(found), found.block, replace(job, cache_types=found.cache_types)
    rest = max(0, room - smallest.total)
    keep = default_budget(rest)

    tokens = None if job.vision is None else largest_picture(least(start, block), room - keep)
    if context is None:
        longest = largest(lambda n: needs(least(n, block)).total <= room - keep, most)
        context = max(start, longest)
    told = f"{name} of {memory // MIB:,} MiB: at most {context:,} tokens of context, read {block} at a "
    told += f"time, {keep // MIB:,} MiB for what was read before"
    told += "" if job.parallel == asked else f", {job.parallel} instead of {asked} answers at once"
    told += "" if tokens is None else f", pictures of at most {tokens:,} tokens"
    if found.cache_types != kinds[0]:
        told += f", keys and values in {name_of(found.cache_types)}, since they do not fit in float16"
    told += "" if rest else "; the weights do not fit beside it, and are read from the disk again and again"
    return Choice(context, job.parallel, job.cache_types, block, keep, tokens, told)

"""`plan`: its arithmetic beside real arrays, the sentences, and the example in docs/memory.md."""

import argparse
import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from PIL import Image
from rewrite import rewrite

from gguf_io import open_gguf
from qwen_ref import QwenRefError, load, shipped
from qwen_ref.cli import main
from qwen_ref.cli.options import bytes_of, gib_of
from qwen_ref.cli.plan import seconds_of, size_of_image
from qwen_ref.config import read_vision_config
from qwen_ref.engine import Sequence, plan, step
from qwen_ref.engine.prefixes import Prefixes
from qwen_ref.errors import tell
from qwen_ref.evaluate import answers
from qwen_ref.kernels import KERNELS
from qwen_ref.media import media
from qwen_ref.model.matrix import Matrix
from qwen_ref.model.vision import VisionModel, vision_work
from qwen_ref.prompt import Prompt, Rank
from qwen_ref.serve import service

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
MIB = 1 << 20


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.fixture
def job(model):
    return plan.Job(model.text.file, 700, model.vision.file, (448, 448), threads=2)


# ---- arithmetic


def test_states_and_kept_prefixes_have_the_sizes_of_their_arrays(model):
    config, tokens = model.config, 131
    parts = {part.name: part.nbytes for part in plan.needs(plan.Job(model.text.file, tokens)).always}
    assert parts["DeltaNet state"] == KERNELS.new_state(config, np.float32).nbytes
    sequence = Sequence(model.text, Prompt([5] * tokens))
    while sequence.unread:
        step(model.text, [sequence])
    grown = sum(array.nbytes for array in sequence.state.arrays(True))
    assert plan.cache_bytes(replace(config, num_mtp_layers=0), tokens) == grown
    kept = Prefixes(1 << 30)
    key = np.arange(tokens)
    kept.keep(key, Rank.ANSWER, sequence.state)
    assert plan.snapshot_bytes(config, tokens) == kept.nbytes - key.nbytes


def test_a_cache_that_grows_is_there_with_a_layer_twice(model):
    """A prompt in blocks of 512 finds room for 512, 1,024, 1,536, 2,304, 3,456, 5,184 and 7,776 tokens."""
    config, token = replace(model.config, num_mtp_layers=0), 2 * 2 * 128 * 2
    assert plan.cache_bytes(config, 512) == 2 * 512 * token
    assert plan.cache_bytes(config, 3500) == 3 * 3456 * token
    assert plan.cache_bytes(config, 5632) == 3 * 5184 * token


@pytest.mark.parametrize("kind", [None, "Q5_1"])
def test_the_tower_s_floats_are_those_that_it_makes(model, job, tmp_path, kind):
    """Of Q8_0 none but those that are floats in the file, too; of a type without a product all."""
    file, name = model.vision.file, "v.blk.0.ffn_down.weight"
    if kind is not None:
        kind = gguf.GGMLQuantizationType[kind]
        rare = gguf.quantize(file.tensors[name].dequantize(), kind), kind
        file = open_gguf(rewrite(file.path, tmp_path / "v.gguf", drop_tensors=[name], add={name: rare}))
    tower = VisionModel(file, layers=KERNELS)
    tower.encode(np.zeros((16, 3 * 2 * 16 * 16), np.float32), (1, 4, 4))
    weights = tower.weights
    groups = [g for block in weights.blocks for g in (block.attention, block.mlp)] + [weights.merger]
    matrices = [m for g in groups for m in vars(g).values() if isinstance(m, Matrix)]
    kept = [m._kept for m in matrices if m._kept is not None]
    assert len(kept) == (kind is not None)
    floats = [weights.patch_embed, weights.position_embedding, *kept]
    assert plan.vision_floats(tower.file, tower.config) == sum(array.nbytes for array in floats)


def test_a_picture_has_the_size_that_the_tower_sees(model, job):
    grid, config = plan.seen(job)[1], model.vision.config
    opened = media.open_image(np.zeros((448, 448, 3), np.uint8), config, media.Limits())
    assert opened.grid_thw == (1, *grid) and opened.shape.num_tokens == plan.image_tokens(config, grid)


def test_weights_are_the_file_but_for_rows_of_embeddings(model, fixtures):
    file = model.text.file
    assert 0 <= file.path.stat().st_size - plan.text_pages(plan.Job(file, 1)) < 4096
    untied = open_gguf(fixtures / "tiny-grouped.gguf")
    one, all_of_it = (plan.text_pages(plan.Job(untied, tokens)) for tokens in (1, 99))
    assert 0 <= untied.path.stat().st_size - all_of_it < 4096
    assert all_of_it - one == untied.tensors["token_embd.weight"].nbytes - plan.MEASURED.FAULT


def test_times_follow_from_the_speed(job):
    slow, fast = plan.Speed("a", 1e9, 1e9, 1e9), plan.Speed("b", 2e9, 2e9, 2e9)
    one, two = plan.times(job, slow), plan.times(job, fast)
    assert one.picture == 2 * two.picture and one.whole_prompt == 2 * two.whole_prompt
    assert two.first_rate == 2 * one.first_rate and one.last_rate < one.first_rate
    assert plan.times(replace(job, image=None), slow).picture is None


def test_a_picture_s_time_is_that_of_its_matrices_and_of_floats(model, job, fixtures):
    products, pairs = vision_work(model.vision.config, (1, 28, 28))
    speed = plan.Speed("a", 1e9, 4e9, 1e9)
    assert plan.times(job, speed).picture == products / 4e9 + pairs / 1e9
    of_floats = open_gguf(fixtures / "mmproj-tiny.gguf")  # BF16
    work = vision_work(read_vision_config(of_floats), (1, 28, 28))
    assert plan.times(replace(job, vision=of_floats), speed).picture == pytest.approx(sum(work) / 1e9)


# ---- sentences


def test_what_fits_and_what_would(job):
    need = plan.needs(job)
    assert plan.verdict(job, need.total).startswith("fits: ")
    slowly = plan.verdict(job, need.total - MIB)
    assert slowly.startswith("fits, but slowly: ") and "--max-image-tokens " in slowly and "\n" not in slowly
    assert plan.verdict(job, need.private - 1).startswith("does not fit: ")
    assert plan.verdict(job, MIB).endswith("nothing smaller of this file would")


@pytest.mark.parametrize("image", [None, (448, 448)])
def test_the_advice_fits_and_no_more_would(job, image):
    job = replace(job, image=image, context=700 if image else 4000)
    memory = plan.needs(job).total - MIB
    first = plan.advice(job, memory)[0].split()
    field = {"--context": "context", "--max-image-tokens": "max_image_tokens"}[first[0]]
    at_most = int(first[1])
    assert plan.needs(replace(job, **{field: at_most})).total <= memory
    assert plan.needs(replace(job, **{field: at_most + 64})).total > memory


def test_where_nothing_helps_alone_all_of_it_together_does(job):
    """And what would fit slowly is told where nothing fits otherwise."""
    large = replace(job, context=4096, parallel=4, image=(2000, 2000))
    least = replace(large, parallel=1, cache_types=plan.SMALLER, max_image_tokens=plan.SMALL_PICTURE)
    memory = plan.needs(replace(least, context=2000)).total
    assert plan.advice(replace(large, parallel=1), memory) != []
    [told] = plan.advice(replace(large, parallel=64), memory)
    start, _, context = told.rpartition(" --context ")
    types = "--cache-type-k q8_0 --cache-type-v q8_0"
    assert start == f"--parallel 1 {types} --max-image-tokens {plan.SMALL_PICTURE}"
    fits = [plan.needs(replace(least, context=n)).total <= memory for n in (int(context), int(context) + 64)]
    assert fits == [True, False]
    [told] = plan.advice(large, plan.needs(replace(least, image=None, context=64)).total)
    assert " no picture --context " in told
    many = replace(job, image=None, parallel=64)
    of_nine = plan.needs(replace(many, parallel=9)).total
    assert re.findall("--parallel ([0-9]+)", plan.verdict(many, of_nine)) == ["9"]
    slowly = plan.verdict(replace(job, image=None), plan.needs(replace(job, image=None, context=64)).private)
    assert slowly.startswith("does not fit: ") and "; what would fit, but slowly: --context " in slowly


# ---- a limit at loading


@pytest.mark.parametrize("mib", [248, 260, 300, 1000])
def test_what_is_chosen_fits_and_is_said(model, job, caplog, mib):
    tell.cache_clear()
    limited = load(memory_limit=mib * MIB, keep=1 << 30)
    assert caplog.messages == [plan.choose(job, mib * MIB, None).sentence]
    tokens, kept = limited.max_image_tokens, limited.prefixes.budget if limited.prefixes else 0
    side = 32 * math.isqrt(tokens)
    chosen = replace(job, context=limited.context, block=limited.block, image=(side, side))
    assert mib == 248 or plan.needs(replace(chosen, image=None)).total + kept <= mib * MIB
    tower = plan.vision_pages(job.vision)
    assert tokens == plan.LEAST_PICTURE or plan.needs(chosen).private + tower + kept <= mib * MIB
    seen = limited.encode_prompt("x", images=[np.zeros((640, 640, 3), np.uint8)])
    assert seen.media[0].shape.num_tokens <= tokens


def load_with(free: int, monkeypatch, caplog):
    tell.cache_clear()
    caplog.clear()
    monkeypatch.setattr(plan, "available_memory", lambda: free)
    return load(), caplog.messages


def test_without_a_limit_what_is_free_is_one_if_it_is_little(job, caplog, monkeypatch):
    ordinary = plan.needs(replace(job, context=plan.LEAST_CONTEXT, image=None)).total
    ordinary += plan.MEASURED.TOKENIZER * job.config.vocab_size
    model, said = load_with(8000 * MIB, monkeypatch, caplog)
    assert (model.max_image_tokens, said) == (None, [])
    model, said = load_with(ordinary + 60 * MIB, monkeypatch, caplog)
    assert said == []
    picture = model.encode_prompt("x", images=[np.zeros((2000, 3000, 3), np.uint8)]).media[0]
    assert model.max_image_tokens * 0.9 < picture.shape.num_tokens <= model.max_image_tokens
    told = f"free memory of {ordinary // MIB + 60} MiB: pictures of at most {model.max_image_tokens:,} tokens"
    assert caplog.messages == [told] and 16 <= model.max_image_tokens < plan.MOST_IMAGE_TOKENS
    assert (model.context, model.block) == (model.config.context_length, 512)
    model, said = load_with(ordinary - 1, monkeypatch, caplog)
    assert said == [plan.choose(job, ordinary - 1, None, name="free memory").sentence]
    assert model.block < 512
    model, (said,) = load_with(100 * MIB, monkeypatch, caplog)  # it may become more
    assert said.startswith("free memory: does not fit: ") and said.endswith("; it is tried all the same")
    assert model.max_image_tokens == plan.LEAST_PICTURE
    monkeypatch.setattr(plan, "available_memory", lambda: 8000 * MIB)  # now it has
    assert model.max_image_tokens is None


def test_a_picture_has_the_limit_that_is_told(job, tmp_path, monkeypatch, capsys, caplog):
    """Also when less is free later, as behind the picture itself."""
    ordinary = plan.needs(replace(job, context=plan.LEAST_CONTEXT, image=None)).total
    free = iter(range(ordinary + 16 * MIB, 0, -2 * MIB))
    monkeypatch.setattr(plan, "available_memory", lambda: next(free))
    tell.cache_clear()
    Image.new("RGB", (2000, 3000)).save(tmp_path / "large.png")
    arguments = ["generate", "--image", str(tmp_path / "large.png"), "--prompt", "x", "-n", "1", "--json"]
    assert main(arguments) == 0
    [most] = re.findall(r"pictures of at most ([\d,]+) tokens", caplog.text)
    seen = json.loads(capsys.readouterr().out)["prompt_tokens"]
    assert 0.8 * int(most.replace(",", "")) < seen < int(most.replace(",", "")) + 20


def test_answers_at_once_have_a_cache_each(job):
    one, four = (plan.needs(replace(job, parallel=n, image=None)) for n in (1, 4))
    assert four.total - one.total == 3 * sum(
        part.nbytes for part in (*one.always, *one.reading) if part.name.startswith(("KV", "DeltaNet"))
    )
    limit = plan.needs(replace(job, image=None, context=1024, parallel=4)).total + 60 * MIB
    of_four, of_one = (load(memory_limit=limit, parallel=n, keep=1 << 30) for n in (4, 1))
    assert of_four.prefixes.budget < of_one.prefixes.budget


@pytest.mark.parametrize("parallel", [16, 5, 2, 1])
def test_fewer_answers_at_once_come_before_smaller_blocks_and_nothing_kept(job, caplog, parallel):
    """Unless so many were asked for."""
    tell.cache_clear()
    some = replace(job, image=None, context=plan.LEAST_CONTEXT, parallel=parallel)
    kept = 4 * plan.snapshot_bytes(job.config, plan.LEAST_CONTEXT)
    limit = plan.needs(some).total + kept + plan.tokenizer_bytes(job)
    chosen = load(memory_limit=limit, parallel=2 * parallel, fewer=True, keep=1 << 30)
    assert (chosen.parallel, chosen.block) == (parallel, 512) and chosen.prefixes.budget >= kept // 4
    assert f", {parallel} instead of {2 * parallel} answers at once" in caplog.text
    less = load(memory_limit=limit - MIB, parallel=2 * parallel, fewer=True, keep=1 << 30)
    assert less.parallel == max(1, parallel // 2)
    if parallel > 2:
        with pytest.raises(QwenRefError, match=r"what would fit: .*--parallel"):
            load(memory_limit=limit - kept, parallel=4 * parallel)


def test_a_conversation_too_long_to_be_kept_takes_no_answers_away(job, monkeypatch):
    monkeypatch.setattr(plan, "snapshot_bytes", lambda *about: 3 << 30)
    many = replace(job, parallel=16)
    assert [plan.choose(many, gib << 30, None, fewer=True).parallel for gib in (64, 4)] == [16, 1]


@pytest.mark.parametrize("command", ["batch", "evaluate", "serve"])
def test_who_did_not_ask_for_answers_at_once_gets_fewer(tmp_path, caplog, capsys, monkeypatch, command):
    tell.cache_clear()
    lines, tasks = tmp_path / "lines.jsonl", str(PAGE.parents[1] / "examples" / "tasks" / "small.jsonl")
    body = {"model": "tiny-Q4_K_M", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    lines.write_text(
        json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
    )
    monkeypatch.setattr("uvicorn.Server.run", lambda *a, **k: None)
    arguments = {
        "batch": ["batch", str(lines), "-o", str(tmp_path / "out.jsonl")],
        "evaluate": ["evaluate", tasks, "--limit", "1"],
        "serve": ["serve", "--port", "0"],
    }[command]
    used = list[int]()

    def noting(function, at):
        return lambda *given: used.append(given[at]) or function(*given)

    monkeypatch.setattr(service, "Scheduler", noting(service.Scheduler, 0))
    monkeypatch.setattr(answers, "answers_together", noting(answers.answers_together, 3))
    assert main([*arguments, "--memory-limit", "200M"]) in (0, 1)
    [told] = re.findall(r", ([12]) instead of (?:4|8|16) answers at once", caplog.text)
    assert max(used) == int(told)


def test_a_folder_that_has_no_room_for_what_was_read_is_told(tmp_path, caplog, job):
    tell.cache_clear()
    limit = plan.needs(replace(job, image=None, context=4096, block=64)).total + plan.tokenizer_bytes(job)
    assert load(memory_limit=limit, cache=tmp_path / "kept").prefixes is None
    assert caplog.messages[-1] == "cache: not used, since the memory has no room to keep what was read"


def test_a_limit_makes_blocks_smaller_and_leaves_the_answer(model):
    asked = dict(max_tokens=8, temperature=0, raw=True)
    small = load(context=1024, memory_limit=plan.needs(plan.Job(model.text.file, 1024, block=64)).total + MIB)
    assert small.block < 512 == model.block
    prompt = "A story about a fox, and another one. " * 20
    told = "".join(small.generate(prompt, **asked))
    assert told == "".join(model.generate(prompt, **asked))


def test_limits_that_cannot_be_kept(model):
    """The tokenizer counts."""
    job = plan.Job(model.text.file, plan.LEAST_CONTEXT, block=64)
    least = f"{(plan.needs(job).private + plan.tokenizer_bytes(job)) / MIB:.0f} MiB"
    with pytest.raises(
        QwenRefError,
        match=rf"^memory limit: does not fit: {least} without the weights are more than 100 MiB; ",
    ):
        load(memory_limit=100 * MIB)
    with pytest.raises(QwenRefError, match=r"^memory_limit: is for the kernels"):
        load(memory_limit=1 << 30, backend="numpy")
    with pytest.raises(QwenRefError, match=r"^memory_limit: -1 is not a whole number of bytes"):
        load(memory_limit=-1)


# ---- the command


@pytest.mark.parametrize(
    "text, size",
    [("2G", 2 << 30), ("512M", 512 << 20), ("1GiB", 1 << 30), ("1.5 gb", 3 << 29), (" 64k", 64 << 10)],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "2", "G", "0G", "-1G", "1e3M", "2GG", "nanG", "1..5G", "9" * 40 + "G", "٢G"]
)
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'.*' is no size like 2G or 512M$"):
        bytes_of(text)


def test_sizes_of_pictures():
    assert size_of_image("448x336") == (448, 336)


@pytest.mark.parametrize(
    "line, said",
    [
        ("--memory 2", "argument --memory: '2' is no size like 2G or 512M"),
        ("--image 448", "--image: '448' is no width and height like 448x448"),
        ("--image 4480x2", "size: 4480 × 2 has a side over 200 times the other"),
        ("--context 16385", "context: 16385 is not in 1 to 16384"),
        ("--context 0", "context: 0 is not in 1 to 16384"),
        ("--max-image-tokens 9", "--max-image-tokens: there is no --image"),
        ("--mmproj vision.gguf", "--mmproj: there is no --image"),
        ("--image 320x320 --context 100", "--image: the picture takes 100 tokens, of a context of 100"),
        ("--image 9x9 --max-image-tokens 0", "--max-image-tokens: 0 is not"),
        ("--threads 0", "--threads: 0 is not"),
        ("--threads 999 --board this", "threads: 999 is not a whole number in 1 to"),
        ("nothing.gguf", "nothing.gguf"),
    ],
)
def test_bad_input_is_one_sentence(capsys, line, said):
    assert main(["plan", "--board", "pi5", *line.split()]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("qwen_ref: ") and said in told


def test_what_is_free_here_says_nothing_of_a_board(capsys):
    """Nor is a prompt of fewer tokens than 1,000 told twice."""
    assert main(["plan", "--board", "pi5", "--context", "900"]) == 0
    told = capsys.readouterr().out
    assert "which are free now on this machine; --memory says what the board has\n" in told
    assert told.count("for a prompt of 900 tokens") == 1 and "for one of 900" not in told


@pytest.mark.parametrize(
    "seconds, said", [(89.94, "89.9 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_times_are_told_in_units_that_people_use(seconds, said):
    assert seconds_of(seconds) == said


@pytest.mark.parametrize("text, gib", [("2G", 2), ("512M", 0.5), ("1.5", 1.5), ("0", 0)])
def test_sizes_in_gib(text, gib):
    assert gib_of(text) == gib


def test_a_larger_picture_than_the_limit_has_room_for_is_told(job, tmp_path, caplog, monkeypatch):
    """Without a limit who asks for a size gets it, whatever is free."""
    tell.cache_clear()
    monkeypatch.setattr(plan, "picture_limit", lambda job: 50)
    Image.new("RGB", (640, 640)).save(tmp_path / "large.png")
    messages = [{"role": "user", "content": [{"type": "image", "image": str(tmp_path / "large.png")}]}]
    least = plan.needs(replace(job, image=None, context=plan.LEAST_CONTEXT, block=64)).total
    limited = load(memory_limit=least + plan.tokenizer_bytes(job) + MIB)
    most = limited.max_image_tokens
    assert most < 300
    for model, asked, tokens in (limited, 300, most), (limited, 20, 20), (load(), 300, 300):
        caplog.clear()
        (opened,) = model.open_media(messages, limits=media.Limits(max_image_tokens=asked))[1]
        assert 0.7 * tokens < opened.shape.num_tokens <= tokens
        said = f"pictures of at most {most:,} tokens, not 300: more do not fit the memory limit"
        assert (said in caplog.text) == (asked > tokens)


def test_a_plan_in_json(capsys):
    assert (
        main(["plan", str(shipped.MODEL), "--json", "--memory", "1G", "--image", "64x64", "--context", "99"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    both = (sum(found[part].values()) for part in ("looking", "reading"))
    assert found["total"] == sum(found["always"].values()) + max(both) and found["fits"]
    assert found["times"]["on"] == "this machine" and found["times"]["first_rate"] > 0


def test_the_page_s_example(capsys):
    command, _, shown = (
        PAGE.read_text(encoding="utf-8").split("```text\n$ ")[1].split("```")[0].partition("\n")
    )
    assert main(shlex.split(command.removeprefix("python -m qwen_ref "))) == 0
    assert capsys.readouterr().out == shown


def test_boards_have_names_and_speeds_of_their_own(capsys):
    found = []
    for board in "pi5", "pi4":
        assert main(["plan", "--board", board, "--context", "1000", "--image", "448x448", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["times"])
    (five, four), speeds = found, plan.BOARDS
    assert [five["on"], four["on"]] == [speeds["pi5"].name, speeds["pi4"].name]
    assert five["first_rate"] / four["first_rate"] == pytest.approx(10 / 4)
    assert 5 < four["short_prompt"] / five["short_prompt"] < 7 and 4 < four["picture"] / five["picture"] < 7


def test_the_picture_has_the_parts(tmp_path, capsys):
    asked = ["plan", "--memory", "100M", "--context", "700", "--image", "448x448", "--board", "pi5"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main([*asked, "--plot", str(tmp_path / "parts.svg")]) == 0
    shown = (tmp_path / "parts.svg").read_text()
    parts = told["always"] | {f"looking: {k}": v for k, v in told["looking"].items()}
    for name, nbytes in (parts | {"at the peak": told["total"]}).items():
        assert f"{name}: {nbytes / MIB:.4g}" in shown.replace("&#x27;", "'"), name
    assert main(["plan", "--plot", "parts.txt"]) == 2

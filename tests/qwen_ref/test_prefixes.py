"""Kept prefixes change how long an answer takes to begin, and nothing of it."""

import copy
import json
import shutil
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import qwen_ref
from gguf_io import open_gguf
from qwen_ref import QwenRefError, errors, load, shipped
from qwen_ref.cli import main
from qwen_ref.engine import Sequence, advance, prefixes, step
from qwen_ref.engine.prefix_files import PrefixFiles, fingerprint, is_finite, parts_of
from qwen_ref.engine.prefixes import LATER, Prefixes, default_budget
from qwen_ref.kernels import KERNELS
from qwen_ref.model.layers import NUMPY
from qwen_ref.model.state import DeltaNetState, KVCache, State
from qwen_ref.model.text import TextModel
from qwen_ref.prompt import Prompt, Rank, Span

GREEDY = dict(temperature=0, presence_penalty=0)
PLENTY = 1 << 30
WAYS = {"numba": (KERNELS, np.float32, 0), "numpy": (NUMPY, np.float64, 1e-12)}
PICTURE = Span(3, 2, 3)
RANKS = Rank.ANSWER, Rank.TURN, Rank.SYSTEM


@pytest.fixture(scope="module", params=WAYS)
def way(request, fixtures):
    layers, dtype, bound = WAYS[request.param]
    text = TextModel(open_gguf(fixtures / "tiny-grouped.gguf"), dtype, layers=layers)
    visible = np.random.default_rng(9).standard_normal((6, text.config.hidden_size)).astype(dtype)
    return SimpleNamespace(text=text, visible=visible, bound=bound)


def read(sequence):
    """The hidden states of all that it has not read."""
    out = []
    while sequence.unread:
        out += step(sequence.text, [sequence])
    return np.concatenate(out)


numbers = st.integers(0, 2)


@settings(max_examples=6)
@given(
    base=st.integers(12, 70),
    texts=st.lists(st.tuples(st.integers(9, 90), st.integers(1, 30), numbers), min_size=2, max_size=5),
    drafted=numbers,
)
def test_what_goes_on_from_a_kept_state_is_a_fresh_run(way, base, texts, drafted):
    """Texts that have beginnings in common, read to places in them, with a picture, and with drafts of which
    a part stays: bit by bit with kernels, and within NumPy's rounding with NumPy."""
    prefixes = Prefixes(PLENTY)
    common = np.random.default_rng(base).integers(0, 500, base).tolist()
    for shared, more, seed in texts:
        ids = common[: max(9, shared)] + np.random.default_rng(seed).integers(0, 500, more).tolist()
        prompt, key = Prompt(ids, spans=[PICTURE]), np.array(ids)
        state = way.text.new_state()
        known = prefixes.take(key, state)
        one = Sequence(way.text, prompt, None if known else way.visible, state)
        one.pauses = [n for n in (9, shared, len(ids) - 1) if known < n < len(ids)]
        found = []
        while one.unread:
            found += step(way.text, [one])
            if one.state.num_tokens in one.pauses:
                prefixes.keep(key[: one.state.num_tokens], Rank.TURN, one.state)
        want = read(Sequence(way.text, prompt, way.visible))[known:]
        assert np.abs(np.concatenate(found) - want).max() <= way.bound
        one.state.mark()
        one.extend([7, 8])
        read(one)
        one.cut(len(ids) + drafted)
        prefixes.keep(np.array(one.token_ids), Rank.ANSWER, one.state)
        assert one.state.next_position == len(one) - 3  # the picture's six took three
        for some in one, Sequence(way.text, prompt, way.visible):  # it went on, and the kept one with it
            state = way.text.new_state()
            assert prefixes.take(np.array([*one.token_ids, 5]), state) == len(one)
            some = Sequence(way.text, Prompt([*one.token_ids, 5], spans=[PICTURE]), None, state)
            again = Sequence(way.text, some.prompt, way.visible)
            assert np.abs(read(some) - read(again)[-1:]).max() <= way.bound


# ---- the tree, against what it should do


def after(key):
    """A state whose arrays say what was read."""
    cache, delta = KVCache(1, 2, np.float32), DeltaNetState(np.zeros((1, 3)), np.zeros((1, 2, 2)))
    sums = np.cumsum(np.array(key) * np.arange(1, len(key) + 1), dtype=np.float32)
    cache.append(np.tile(sums[:, None, None], (1, 1, 2)), -np.tile(sums[:, None, None], (1, 1, 2)))
    delta.conv[:], delta.recurrent[:] = sums[-1], len(key)
    return State([cache, delta], len(key))


TOKEN, SNAPSHOT, SEEN = 8 + 2 * 2 * 4, (3 + 4) * 8, 100  # bytes


class Plain:
    """The same without a tree: a list of keys."""

    def __init__(self, budget):
        self.budget, self.uses, self.clock = budget, {}, 0

    @property
    def nbytes(self):
        keys = [key for key in self.uses if isinstance(key, tuple)]
        tokens = {key[:n] for key in keys for n in range(1, len(key) + 1)}
        return len(tokens) * TOKEN + len(keys) * SNAPSHOT + (len(self.uses) - len(keys)) * SEEN

    def touch(self, used):
        self.clock += 1
        for key in self.uses:
            begins = isinstance(used, tuple) and isinstance(key, tuple) and used[: len(key)] == key
            if key == used or (begins and self.uses[key][0] == Rank.SYSTEM):
                self.uses[key][1] = self.clock

    def take(self, key):
        found = [k for k in self.uses if isinstance(k, tuple) and len(k) < len(key) and key[: len(k)] == k]
        if found:
            self.touch(max(found, key=len))
        return max(map(len, found), default=0)

    def keep(self, key, rank):
        alone = SEEN if isinstance(key, bytes) else len(key) * TOKEN + SNAPSHOT
        if isinstance(key, bytes) and (key in self.uses or alone > self.budget):
            return
        self.uses[key] = [max(rank, self.uses.get(key, [rank])[0]), 0]
        self.touch(key)
        if alone > self.budget:
            del self.uses[key]
        while self.nbytes > self.budget:
            del self.uses[min(self.uses, key=lambda k: self.uses[k][1] + LATER[self.uses[k][0]])]


keys = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
actions = st.one_of(
    st.tuples(st.just("keep"), keys, st.sampled_from(RANKS)),
    st.tuples(st.just("take"), keys, st.none()),
    st.tuples(st.just("picture"), st.integers(0, 3).map(lambda n: bytes([n])), st.none()),
)


@settings(max_examples=150)
@given(
    budget=st.integers(0, 1500),
    todo=st.lists(actions, min_size=5, max_size=60),
    later=st.sampled_from([(0, 0, 0), (0, 3, 9), tuple(map(LATER.get, RANKS))]),
)
def test_the_tree_keeps_and_finds_what_a_list_of_keys_does(budget, todo, later):
    """And uses as many bytes as that needs, which are never more than it may."""
    tree, plain = Prefixes(budget), Plain(budget)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for rank, times in zip(RANKS, later, strict=True):
            monkeypatch.setitem(LATER, rank, times)
        for what, key, rank in todo:
            if what == "keep":
                tree.keep(np.array(key), rank, after(key))
                plain.keep(key, rank)
            elif what == "take":
                state = after([1])
                state.layers[0].length = state.num_tokens = 0
                n = tree.take(np.array(key), state)
                assert n == plain.take(key)
                for found, want in zip(state.layers, after(key[:n]).layers if n else (), strict=bool(n)):
                    assert all(map(np.array_equal, found.arrays(0), want.arrays(0)))
            else:
                if tree.picture(key) is None:
                    tree.keep_picture(key, np.zeros(SEEN, np.uint8))
                    plain.keep(key, Rank.TURN)
                else:
                    plain.touch(key)
            assert tree.nbytes == plain.nbytes <= budget
    everything = [tree._root]
    for node in everything:
        everything += node.children.values()
        assert node.children or node in tree._uses or node is tree._root  # no edge leads nowhere
        assert all(array.base is None for array in node.growing)  # none holds more than it counts


def test_what_was_interrupted_is_forgotten(monkeypatch):
    """Half of a change would be another text's state."""
    tree = Prefixes(PLENTY)
    tree.keep(np.array([1, 2, 3]), Rank.TURN, after([1, 2, 3]))

    def interrupted(*some):
        raise KeyboardInterrupt

    monkeypatch.setattr(tree, "_touch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tree.keep(np.array([1, 2, 4]), Rank.TURN, after([1, 2, 4]))
    monkeypatch.undo()
    assert tree.take(np.array([1, 2, 3, 4]), after([1])) == tree.nbytes == 0


def test_answers_go_before_turns_and_turns_before_system_prompts():
    tree = Prefixes(2 * SNAPSHOT + 4 * TOKEN)
    for key, rank in ([1], Rank.SYSTEM), ([1, 2], Rank.TURN), ([1, 2, 3], Rank.ANSWER), ([1, 5], Rank.TURN):
        tree.keep(np.array(key), rank, after(key))
        assert tree._uses
    tree.keep(np.array([1]), Rank.ANSWER, after([1]))  # it stays what it was
    assert [use.rank for use in tree._uses.values()] == [Rank.SYSTEM, Rank.TURN]
    tree = Prefixes(SEEN)
    tree.keep_picture(b"a", np.zeros(SEEN, np.uint8))
    assert tree.picture(b"a") is not None


# ---- conversations


def places(model, prompt):
    return {model.tokenizer.decode(prompt.token_ids[:n])[-20:]: rank for n, rank in prompt.pauses.items()}


@pytest.fixture(scope="module")
def models():
    """The shipped model, which keeps nothing; and how to get one that does, as `load` makes it."""
    plain = load()

    def new(keep=None, cache=None):
        model = copy.copy(plain)
        model.prefixes = model._prefixes(keep, cache)
        return model

    return SimpleNamespace(plain=plain, new=new)


def both(models, model, messages, **options):
    """The answer of a model that keeps states, which is that of one that does not; its generation."""
    options = GREEDY | dict(max_tokens=12) | options
    kept, fresh = (some.generate(messages, **options) for some in (model, models.plain))
    assert "".join(kept) == "".join(fresh) and kept.token_ids == fresh.token_ids
    assert fresh.cached_tokens == 0
    return kept


def test_turns_read_what_is_new(models):
    """From before the last answer, whose thought the template drops; or, where the last message is another
    one, from before that; another conversation has the system prompt in common."""
    model, system = models.new(keep=PLENTY), "You are brief."
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    first = both(models, model, messages, system=system)
    assert (first.cached_tokens, len(model.prefixes._uses)) == (0, 3)
    again = both(models, model, messages, system=system, thinking=True)
    turn = places(model, first._prompt)
    assert again.cached_tokens == max(first._prompt.pauses) and turn == {
        "You are brief.<|im_end|>\n"[-20:]: Rank.SYSTEM,
        "<|im_end|>\n<|im_start|>assistant\n"[-20:]: Rank.TURN,
    }
    messages += [first.message, {"role": "user", "content": "And then?"}]
    second = both(models, model, messages, system=system)
    assert second.cached_tokens == again.cached_tokens
    messages[-1] = {"role": "user", "content": "Why?"}
    edited = both(models, model, messages, system=system)
    assert places(model, edited._prompt).popitem()[1] == Rank.TURN
    assert edited.cached_tokens == sorted(second._prompt.pauses)[-2] > second.cached_tokens
    other = both(models, model, "Hello", system=system)
    assert other.cached_tokens == min(first._prompt.pauses)
    assert both(models, model, "Hello").cached_tokens == 0
    words = "abcde " * 30
    assert both(models, model, words, raw=True).cached_tokens == 0
    raw = both(models, model, words, raw=True)
    assert raw.cached_tokens == len(raw.prompt_ids) - 1
    longer = both(models, model, words + "a b", raw=True)  # its own end is too near for a step of its own
    assert longer.cached_tokens == raw.cached_tokens and longer._sequence.pauses == []
    far = both(models, model, words + "a b c d e f g h i j", raw=True)
    assert far._sequence.pauses == [len(far.prompt_ids) - 1]


def test_an_answer_goes_on_from_its_end(models):
    """With drafts in its last step, too; so do tool calls, whose results come behind them."""
    model = models.new(keep=PLENTY)
    for draft in "off", "lookup":
        first = both(models, model, "a b c d a b c d a b c d" + draft, raw=True, max_tokens=30, draft=draft)
        ids = first.prompt_ids + first.token_ids + [5, 6]
        second = both(models, model, Prompt(ids))
        assert second.cached_tokens == first._sequence.state.num_tokens >= len(ids) - 4


def test_an_mtp_layer_begins_behind_what_was_kept(fixtures):
    """Its drafts may be others, the text is not."""
    model = load(fixtures / "tiny-grouped.gguf", keep=PLENTY)
    options = dict(raw=True, max_tokens=40, draft="mtp", **GREEDY)
    first, second = (model.generate("Once upon a time there was", **options) for _ in range(2))
    assert "".join(first) == "".join(second) and second.cached_tokens == len(first.prompt_ids) - 1
    (layer,) = second._drafts.sources
    assert layer._first == second.cached_tokens and second.drafted
    assert layer._first + layer.state.num_tokens + len(layer._hidden) - 1 == second._sequence.state.num_tokens


def test_several_at_once(models):
    model = models.new(keep=PLENTY)
    texts = ["Hello", "What is 2 + 3?", "Hello"]
    for known in 0, 1:
        some = [model.generate(text, system="You are brief.", max_tokens=5, **GREEDY) for text in texts]
        while advance(some):
            pass
        for one, text in zip(some, texts, strict=True):
            fresh = models.plain.generate(text, system="You are brief.", max_tokens=5, **GREEDY)
            assert one.text == "".join(fresh) and bool(one.cached_tokens) == known


def test_pictures_are_looked_at_once(models, monkeypatch):
    """Those within a kept beginning not again, others by what the tower made of them; another picture of the
    same size is another one."""
    model, seen = models.new(keep=PLENTY), []
    encode = model.vision.encode
    monkeypatch.setattr(model.vision, "encode", lambda *some: seen.append(some[1]) or encode(*some))
    image, other = (np.random.default_rng(n).integers(0, 255, (64, 96, 3)).astype(np.uint8) for n in (1, 2))
    clip = [image, other, image, other]
    first = both(models, model, "What is this?", images=[image])
    assert len(seen) == 1 and min(first._prompt.key) < 0
    end = first._prompt.places[-1] + 1
    assert both(models, model, "What colour is it?", images=[image]).cached_tokens == end and len(seen) == 1
    assert both(models, model, "What colour is it?", images=[other]).cached_tokens == 0 and len(seen) == 2
    assert both(models, model, "Hi", images=[image], system="Look.").cached_tokens == 0 and len(seen) == 2
    moving = both(models, model, "What moves?", images=[image], videos=[clip])
    assert moving.cached_tokens == end and len(seen) == 3
    messages = moving._prompt
    assert both(models, model, messages).cached_tokens > messages.spans[-1].start and len(seen) == 3
    monkeypatch.setattr(model.prefixes, "picture", lambda digest: None)
    assert both(models, model, "Where?", images=[image]).cached_tokens == end and len(seen) == 3
    model.prefixes = Prefixes(model.prefixes.budget)
    model.prefixes.keep_picture(first._prompt.media[0].digest, np.zeros(0))
    assert model.prefixes.picture(first._prompt.media[0].digest) is not None


def test_nothing_is_kept_unless_asked_for(models):
    assert models.plain.prefixes is None and models.new(keep=0).prefixes is None
    with pytest.MonkeyPatch.context() as monkeypatch:
        for free, budget in (4000, 1000), (1 << 40, 1 << 30):
            monkeypatch.setattr(prefixes, "available_memory", lambda free=free: free)
            assert default_budget() == budget
    small = models.new(keep=1000)
    assert both(models, small, "Hello").cached_tokens == both(models, small, "Hello").cached_tokens == 0
    assert small.prefixes.nbytes == 0
    for wrong in dict(keep=-1), dict(keep=True), dict(keep=1.5):
        with pytest.raises(QwenRefError, match="keep: "):
            load(**wrong)
    with pytest.raises(QwenRefError, match="cache: an int is no path"):
        load(cache=5)


def test_a_text_that_began_in_its_middle_is_not_read_again(way):
    """Where the pictures before are not known."""
    ids, prefixes = list(range(5, 30)), Prefixes(PLENTY)
    one = Sequence(way.text, Prompt(ids[:20], spans=[PICTURE]), way.visible)
    read(one)
    prefixes.keep(np.array(ids[:20]), Rank.TURN, one.state)
    state = way.text.new_state()
    prefixes.take(np.array(ids), state)
    two = Sequence(way.text, Prompt(ids, spans=[PICTURE]), None, state)
    read(two)
    with pytest.raises(QwenRefError, match="pictures before"):
        two.cut(22)


# ---- on disk


def test_another_process_goes_on_from_the_files(models, tmp_path, caplog):
    """From any of the places, not only from the last."""
    model, system = models.new(cache=tmp_path), "You are brief."
    messages = [{"role": "user", "content": "Tell me a story about a fox."}]
    first = both(models, model, messages, system=system)
    messages += [first.message, {"role": "user", "content": "And then?"}]
    second = both(models, model, messages, system=system)
    model.prefixes.save()
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert len(files) == len(model.prefixes._uses) == 6
    before = [file.stat().st_ino for file in files]
    model.prefixes.save()
    assert before == [file.stat().st_ino for file in files]  # what is there is not written again

    def cached(text, **options):
        return both(models, models.new(cache=tmp_path), text, **options).cached_tokens

    assert cached(messages, system=system) == max(second._prompt.pauses)
    messages[-1] = {"role": "user", "content": "Why?"}
    assert cached(messages, system=system) == sorted(second._prompt.pauses)[-2]
    assert cached(messages[:1], system=system) == max(first._prompt.pauses)
    assert cached("Hello", system=system) == min(first._prompt.pauses)
    assert cached("Hello") == 0
    small = models.new(cache=tmp_path, keep=1)  # what comes from the disk need not fit in memory
    assert both(models, small, "Hello", system=system).cached_tokens == min(first._prompt.pauses)
    assert small.prefixes.nbytes == 0 and not caplog.records


def change(file, do):
    tensors = load_file(file)
    do(tensors)
    save_file(tensors, file)


BROKEN = {
    "truncated": lambda f: f.write_bytes(f.read_bytes()[:-5000]),
    "empty": lambda f: f.write_bytes(b""),
    "no safetensors": lambda f: f.write_bytes(b"\xff" * 100),
    "a bit": lambda f: f.write_bytes(
        f.read_bytes()[:-9] + bytes([f.read_bytes()[-9] ^ 1]) + f.read_bytes()[-8:]
    ),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
    "another prompt": lambda f: change(f, lambda t: t["key"].__setitem__(0, 7)),
    "another start": lambda f: change(f, lambda t: t["about"].__setitem__(0, 1)),
    "a start behind": lambda f: change(f, lambda t: t["about"].__setitem__(0, 1 << 40)),
    "another rank": lambda f: change(f, lambda t: t["about"].__setitem__(1, 9)),
    "a shape": lambda f: change(f, lambda t: t.update({"growing.0": t["growing.0"][:, :3].copy()})),
    "a type": lambda f: change(f, lambda t: t.update({"fixed.1": t["fixed.1"].astype(np.float16)})),
    "a tensor less": lambda f: change(f, lambda t: t.pop("growing.0")),
    "no numbers": lambda f: change(f, lambda t: t["fixed.0"].fill(np.nan)),
    "a size": lambda f: f.write_bytes(resized(f.read_bytes())),
    "not there": lambda f: f.unlink(),
}


def resized(data):
    """The header says that a tensor has fewer bytes than its shape."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header["fixed.0"]["data_offsets"][1] -= 8
    new = json.dumps(header).encode()
    return struct.pack("<Q", len(new)) + new + data[8 + size :]


def test_a_prompt_that_was_interrupted_goes_on_behind_its_last_block(tmp_path):
    """If there is a folder; and nothing of its blocks is kept once it is read."""
    asked = dict(GREEDY, raw=True, max_tokens=6)
    prompt = "A fox and a hen met in the wood, and another fox came by. " * 18

    def interrupt(what, done, total):
        if done >= 256:
            raise KeyboardInterrupt

    def load(**options):
        model = qwen_ref.load(**options)
        model.block = 128  # of a prompt: smaller than usual, for quick work
        return model

    model, whole = load(cache=tmp_path, keep=PLENTY), load()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            "".join(model.generate(prompt, progress=interrupt, **asked))
    model.prefixes.save()
    later = load(cache=tmp_path, keep=PLENTY)
    resumed, plain = (each.generate(prompt, **asked) for each in (later, whole))
    assert "".join(resumed) == "".join(plain)
    assert (resumed.cached_tokens, plain.cached_tokens) == (256, 0) and len(resumed.prompt_ids) > 384
    assert Rank.PART not in {use.rank for use in later.prefixes._uses.values()}
    without = load(keep=PLENTY)
    with pytest.raises(KeyboardInterrupt):
        "".join(without.generate(prompt, progress=interrupt, **asked))
    assert without.prefixes.nbytes == 0


def test_files_from_strangers(models, tmp_path, caplog):
    """A warning and a fresh run, or one from an earlier state; and the next run has a file again."""
    model = models.new(cache=tmp_path / "whole")
    messages, short = [{"role": "user", "content": "Hello"}], dict(system="You are brief.", max_tokens=2)
    first = both(models, model, messages, **short)
    model.prefixes.save()
    name, places = next(p.name for p in tmp_path.glob("whole/*")), sorted(first._prompt.pauses)
    for number, (what, spoil) in enumerate(BROKEN.items()):
        broken, left = [(places[1], places[0]), (places[0], 0)][number % 2]
        caplog.clear()
        errors.tell.cache_clear()
        folder = tmp_path / f"{what} {broken}"
        shutil.copytree(tmp_path / "whole", folder)
        (file,) = (folder / name).glob(f"{broken}-*")
        spoil(file)
        model = models.new(cache=folder)
        found = both(models, model, messages, **short)
        assert found.cached_tokens == left, what
        assert len(caplog.records) == (what != "not there"), (what, caplog.text)
        if what != "a folder":
            model.prefixes.save()
            again = both(models, models.new(cache=folder), messages, **short)
            assert again.cached_tokens == places[1], what


def test_numbers_that_are_not_finite_are_refused_though_their_checksum_is_right(way, tmp_path, caplog):
    prefixes = Prefixes(PLENTY, PrefixFiles(tmp_path, "model", way.text.new_state()))
    key = np.arange(20)
    one = Sequence(way.text, Prompt(key.tolist()))
    read(one)
    one.state.layers[0].conv[0, 0] = np.nan
    prefixes.keep(key, Rank.TURN, one.state)
    prefixes.save()
    prefixes = Prefixes(PLENTY, PrefixFiles(tmp_path, "model", way.text.new_state()))
    assert prefixes.take(np.arange(21), way.text.new_state()) == 0
    assert "not finite" in caplog.text


def test_other_models_and_full_folders(models, tmp_path, caplog, monkeypatch):
    """Another file has other states, and so has one that was written to; a folder has a budget."""
    other = shutil.copy2(shipped.MODEL, tmp_path / "other.gguf")
    text = models.plain.text
    names = {fingerprint(text, None), fingerprint(text, other)}
    file, text.file.path = text.file.path, other
    try:
        names.add(fingerprint(text, None))
        other.touch()
        names.add(fingerprint(text, None))
        with open(other, "r+b") as data:
            data.seek(other.stat().st_size // 2)
            data.write(b"12345678")
        names.add(fingerprint(text, None))
    finally:
        text.file.path = file
    assert len(names) == 4  # a copy with the same times is the same model
    with monkeypatch.context() as patched:  # what makes patches of pixels is another one
        patched.setattr("importlib.metadata.version", lambda name: f"another {name}")
        assert fingerprint(text, None) not in names

    model = models.new(cache=tmp_path / "cache")
    (tmp_path / "cache" / "Qwen3.5-0.8B").mkdir()
    (tmp_path / "cache" / "Qwen3.5-0.8B" / "model.safetensors").touch()  # it is not ours
    model.prefixes.files.budget = 0
    assert both(models, model, "Hello").cached_tokens == 0
    model.prefixes.save()
    assert [file.name for file in tmp_path.glob("cache/*/*")] == ["model.safetensors"]
    with pytest.raises(QwenRefError, match=r"other\.gguf: cannot be used"):
        models.new(cache=other)
    shutil.rmtree(tmp_path / "cache")
    model.prefixes.save()
    assert "cannot be written" in caplog.text


def test_what_was_used_last_stays_in_a_full_folder(tmp_path, monkeypatch):
    """Of one text its end goes first, since what goes on needs its beginning."""
    files = PrefixFiles(tmp_path / "cache", "model", after([1]))
    assert files.folder.stat().st_mode & 0o77 == 0  # conversations are private

    def write(*key):
        state = after(key)
        files.write(np.array(key), Rank.TURN, lambda: state.arrays(True), state.arrays(False))

    def left():
        there = sorted(int(path.name.partition("-")[0]) for path in files.folder.iterdir())
        assert there == sorted(files._names.values())
        return there

    def used():
        return sum(path.stat().st_size for path in files.folder.iterdir())

    for key in (1, 2), (5, 6, 7), (8, 8, 8, 8, 8), (1, 2, 3, 4):  # which is kept from the first one on
        write(*key)
    assert files.read(np.array([5, 6, 7])) is not None
    files.budget = used()
    files._trim()
    assert left() == [2, 3, 4, 5]  # all that may be there
    files.budget -= 1
    files._trim()
    assert left() == [2, 3, 4]
    files.budget = used() - 1
    files._trim()
    assert left() == [2, 3]
    files.budget = 1 << 30
    for free, want in (used(), [2, 3]), (used() - 2, [3]):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        files._trim()
        assert left() == want
    for bits, finite in (0x7BFF, True), (0xFBFF, True), (0x7C00, False), (0xFC00, False), (0x7E01, False):
        assert (
            is_finite(np.array([bits], np.uint16))
            == finite
            == bool(is_finite(np.array([bits], np.uint16).view(np.float16)))
        )
    names = [tmp_path / f"{name}-0000{n}-of-00002.gguf" for name in "ab" for n in (1, 2)]
    for name in names:
        name.touch()
    assert parts_of(names[1]) == names[:2] and parts_of(tmp_path / "x.gguf") == [tmp_path / "x.gguf"]


def test_the_command_says_what_was_kept(tmp_path, capsys):
    model = load(cache=tmp_path)
    text = "".join(model.generate("Hello", max_tokens=4, **GREEDY))
    model.prefixes.save()
    command = "generate --prompt Hello --greedy -n 4 --json --cache".split()
    assert main([*command, str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cached_tokens"] == max(model.encode_prompt("Hello").pauses) and told["text"] == text

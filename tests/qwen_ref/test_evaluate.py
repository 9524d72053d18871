"""A task's file, answers judged, what is known of shares and differences, the command."""

import itertools
import json
import math
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from qwen_ref import QwenRefError, load, shipped
from qwen_ref.cli import main
from qwen_ref.cli.evaluate import lines_to
from qwen_ref.evaluate import report, statistics
from qwen_ref.evaluate.answers import Answer, Options, answers, continued
from qwen_ref.evaluate.judge import judge, judge_choice
from qwen_ref.evaluate.task import Sample, read_task

ROOT = Path(__file__).parents[2]
TASK = ROOT / "examples/tasks/small.jsonl"


def written(folder: Path, *lines: dict | str, name: str = "task.jsonl") -> Path:
    path = folder / name
    path.write_text(
        "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8"
    )
    return path


# ---- the file


@pytest.mark.parametrize(
    "task, count, cases",
    [
        ("newcomer", 206, [
            ("shapes-3", "There are three shapes.", "There are 2 objects."),
            ("shapes-4", "Stars: red 1, red 2, red 3. There are 3 stars.", "Stars: red 1. There is 1 star."),
            ("compare-2", "350 is larger.", "305 is larger than 350."),
            ("compare-8", "14 < 92. 92 > 38. 92 is the largest.", "14 < 92. 38 is the largest."),
            ("documents-1", '{"Bread": "2.50", "Milk": "1.20", "total": "3.70"}', '{"Bread": 2.5}'),
            ("fact-1", "He lives in Hamburg.", "In Rome."),
            ("json-1", '{"name": "Anna", "age": 31, "city": "Rome"}', '{"job": "nurse"}'),
            ("unknown-1", "I don't know.", "Paris"),
        ]),
        ("stranger", 218, [
            ("shapes-11", "There are more circles.", "There are more squares than circles."),
            ("compare-4", "Yes, that is true.", "No, 17 is more."),
            ("sums-4", "60 - 15 = 45.", "60 - 45 = 15."),
            ("memory-8", "You live in Malmo.", "You live in Bergen."),
            ("json-1", '{"name": "Momo", "age": 4}', '{"name": "cat", "age": "Momo"}'),
            ("unknown-5", "The text does not say.", "Nadia."),
        ]),
    ],
)  # fmt: skip
def test_tasks_by_others(task, count, cases):
    """Their patterns take answers in more words than one, and none that says something else."""
    samples = {s.id: s for s in read_task(str(TASK.with_name(f"{task}.jsonl")), "exact")}
    assert len(samples) == count
    for name, right, wrong in cases:
        sample = samples[name]
        assert [*judge(sample.score, sample.target, right).values()] == [1], name
        assert [*judge(sample.score, sample.target, wrong).values()] == [0], name


def test_a_task(tmp_path):
    shutil.copy(ROOT / "examples/media/shapes.png", tmp_path / "a.png")
    part = {"type": "image", "image": "a.png"}
    lines = [
        {"input": "a?", "target": "b"},
        "",
        {
            "id": "x",
            "input": "c?",
            "ideal": ["d", "e"],
            "score": "includes",
            "metadata": {"of": 1},
            "group": "g",
        },
        {"input": "f?", "choices": ["A", "C", "B"], "target": "B"},  # its text, not its letter
        {"input": "f?", "choices": ["x", "y", "z"], "target": "B"},
        {"input": "f?", "choices": ["x", "y", "z"], "target": 2},
        {"input": "f?", "images": ["a.png"], "target": [1, 2, 3, 4], "score": "boxes"},
        {"input": [{"role": "user", "content": [part]}], "target": [], "score": "boxes"},
    ]
    samples = read_task(str(written(tmp_path, *lines)), "regex")
    assert [s.line for s in samples] == [1, 3, 4, 5, 6, 7, 8]
    assert [s.id for s in samples] == [1, "x", 4, 5, 6, 7, 8]
    assert [s.score for s in samples] == ["regex", "includes", "choice", "choice", "choice", "boxes", "boxes"]
    assert [s.target for s in samples[2:5]] == [2, 1, 2]
    assert samples[0].target == [re.compile("b")] and samples[1].target == ["d", "e"]
    assert [s.group for s in samples[:2]] == ["task", "g"] and samples[1].metadata == {"of": 1}
    assert samples[5].prompt[0]["content"][0]["image"] == str(tmp_path / "a.png")
    assert samples[6].prompt[0]["content"][0]["image"] == str(tmp_path / "a.png")
    assert samples[6].target == []


GOOD = {"input": "a?", "target": "b"}


def nested(depth: int) -> list:
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "line, told",
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: is a list, not an object with input and target"),
        ({"input": "a?"}, "line 2: target: is missing"),
        ({"target": "b"}, "line 2: input: is missing"),
        (GOOD | {"ideal": "b"}, "line 2: ideal: is another name of target; give one of them"),
        (GOOD | {"targt": "b"}, "line 2: 'targt' is no field of a sample: id, input, "),
        (GOOD | {"score": "bleu"}, "line 2: score: 'bleu' is not one of exact, includes, "),
        (GOOD | {"score": "choice"}, "line 2: choices: is missing"),
        (GOOD | {"choices": ["a", "b"], "score": "exact"}, "line 2: choices: have no part in exact"),
        (GOOD | {"choices": ["b"]}, "line 2: choices: ['b'] is no list of two texts or more"),
        (GOOD | {"choices": ["b", " "]}, "line 2: choices: number 2: ' ' is no text that says something"),
        (GOOD | {"choices": ["b", "b"]}, "line 2: choices: number 2: 'b' is there twice"),
        (GOOD | {"choices": ["x", "y"]}, "line 2: target: 'b' is none of the choices"),
        (GOOD | {"choices": ["x", "y"], "target": 2}, "line 2: target: 2 is none of the choices"),
        (GOOD | {"choices": ["x", "y"], "target": True}, "line 2: target: True is none of the choices"),
        (GOOD | {"target": []}, "line 2: target: [] is no text or list of texts"),
        (GOOD | {"target": 3}, "line 2: target: 3 is no text or list of texts"),
        (GOOD | {"target": "(", "score": "regex"}, "line 2: target: '(' is no regular expression: "),
        (GOOD | {"score": "json"}, "line 2: target: 'b' is no object or list with something in it"),
        (GOOD | {"score": "json", "target": {}}, "line 2: target: {} is no object or list"),
        (GOOD | {"score": "boxes"}, "line 2: target: a str is no list of boxes"),
        (GOOD | {"score": "boxes", "target": [[1, 2, 3]]}, "line 2: target: number 1: [1, 2, 3] is no box "),
        (GOOD | {"score": "boxes", "target": [[1, 2, 3, 1001]]}, "line 2: target: number 1: "),
        (GOOD | {"score": "boxes", "target": [[1, 2, 1001, 3]]}, "line 2: target: number 1: "),
        (GOOD | {"score": "boxes", "target": [[3, 2, 1, 4]]}, "line 2: target: number 1: "),
        (GOOD | {"id": 1}, "line 2: id: 1 is that of line 1"),
        (GOOD | {"id": True}, "line 2: id: a bool is no text or number"),
        (GOOD | {"group": " "}, "line 2: group: ' ' is no text that names one"),
        (GOOD | {"input": 3}, "line 2: input: an int is no text or list of messages"),
        (GOOD | {"input": [{"role": "usr"}]}, "line 2: input: message 1: role: 'usr' is not one of"),
        (GOOD | {"images": ["none.png"]}, "line 2: input: message 1: part 1: "),
        (GOOD | {"images": "none.png"}, "line 2: images: is no list of paths"),
        (GOOD | {"images": [""]}, "line 2: images: number 1: is empty"),
        (GOOD | {"videos": ["a", ""]}, "line 2: videos: number 2: is empty"),
        (
            GOOD | {"input": [{"role": "user", "content": [{"type": "image", "image": ""}]}]},
            "line 2: input: message 1: part 1: image: a path is empty",
        ),
        (
            GOOD | {"input": [{"role": "user", "content": [{"type": "video", "video": [""]}]}]},
            "line 2: input: message 1: part 1: video: a path is empty",
        ),
        (
            GOOD | {"score": "boxes", "target": {"bbox_2d": [1, 2, 3, 4], "lable": "x"}},
            "line 2: target: number 1: 'lable' is no field of a box: bbox_2d, label",
        ),
        (GOOD | {"metadata": float("nan")}, "line 2: metadata: nan is no number that JSON has"),
        (GOOD | {"metadata": {"a": [1, float("-inf")]}}, "line 2: metadata: -inf is no number"),
        ('{"input": "a", "ideal": [1e999], "score": "json"}', "line 2: ideal: inf is no number"),
        (GOOD | {"score": "json", "target": nested(101)}, "line 2: target: is nested more than 100 deep"),
        (GOOD | {"metadata": {"a": nested(100)}}, "line 2: metadata: is nested more than 100 deep"),
        (
            GOOD | {"input": [{"role": "user", "content": "a"}], "images": ["a"]},
            "line 2: images: with messages,",
        ),
    ],
)
def test_a_line_that_makes_no_sense(tmp_path, line, told):
    path = written(tmp_path, GOOD, line)
    with pytest.raises(QwenRefError) as raised:
        read_task(str(path))
    assert str(raised.value).startswith(f"{path}: {told}"), raised.value


def test_no_sample(tmp_path):
    for name, told in (
        (written(tmp_path, ""), "holds no sample"),
        (tmp_path / "no", "cannot be read: No such"),
    ):
        with pytest.raises(QwenRefError, match=told):
            read_task(str(name))
    (tmp_path / "latin.jsonl").write_bytes(b'{"input": "\xe4"}')
    with pytest.raises(QwenRefError, match="line 1: byte 11 is not UTF-8 text"):
        read_task(str(tmp_path / "latin.jsonl"))


# ---- judging

ONE, TWO = (
    '{"bbox_2d": [0, 0, 100, 100], "label": "cat"}',
    '{"bbox_2d": [200, 200, 300, 400], "label": "dog"}',
)
CAT, DOG = {"bbox_2d": [0, 0, 100, 50], "label": "cat"}, {"bbox_2d": [200, 200, 300, 400], "label": "dog"}


@pytest.mark.parametrize(
    "score, target, answer, value",
    [
        ("exact", " b", "b \n", 1),
        ("exact", "b", "B", 0),
        ("exact", ["a", "b"], "b", 1),
        ("includes", ["x", "b"], "abc", 1),
        ("includes", "ac", "abc", 0),
        ("regex", r"= 5\Z", "2 + 3\n= 5", 1),
        ("regex", "^b", "ab", 0),
        ("json", {"a": 1, "b": {"c": "x"}}, 'So: {"a": 1.0, "b": {"c": " x"}}', 1),
        ("json", {"a": 1, "b": "x"}, '{"a": true, "b": "x"}', 0.5),
        ("json", {"a": 1}, '{"a": 1, "b": 2}', 0.5),  # what was made up is wrong
        ("json", {"a": None}, "{}", 0),
        ("json", {"a": [1, 2]}, '{"a": 5} or rather {"a": [1, 3]}', 0.5),
        ("json", {"a": 1}, "no", 0),
        ("boxes", [0, 0, 100, 50], ONE, 0.5),
        ("boxes", [CAT, DOG], f"[{TWO}, {ONE}]", 0.75),
        ("boxes", [CAT, DOG], ONE, 0.25),
        ("boxes", [DOG], f"[{ONE}, {TWO}]", 0.5),
        ("boxes", [{"bbox_2d": [0, 0, 100, 100], "label": "dog"}], ONE, 0),
        ("boxes", [], "none", 1),
        ("boxes", [], ONE, 0),
        ("boxes", [0, 0, 1000, 1000], '{"bbox_2d": [500, 0, 0, 1000]}', 0),
        ("boxes", [[0, 0, 100, 100], [0, 0, 100, 50]], f"[{ONE}, {ONE}]", 0.75),
        ("boxes", [[0, 0, 100, 100], [0, 0, 100, 50]], ONE, 0.5),  # each box once
    ],
)
def test_an_answer_is_judged(tmp_path, score, target, answer, value):
    (sample,) = read_task(str(written(tmp_path, {"input": "a", "target": target, "score": score})))
    ((_, found),) = judge(score, sample.target, answer).items()
    assert found == pytest.approx(value)


def test_what_is_nested_deep_is_judged(tmp_path):
    """As deep as a task may have it, and in an answer as deep as JSON is read."""
    lines = [{"input": "a", "target": nested(100), "score": "json", "metadata": nested(100)}]
    (sample,) = read_task(str(written(tmp_path, *lines)))
    assert judge("json", sample.target, json.dumps(nested(100))) == {"fields": 1.0}
    deep = "[" * 700 + '{"bbox_2d": [0, 0, 100, 100]}' + "]" * 700
    assert judge("json", sample.target, deep) == {"fields": 0.0}
    (sample,) = read_task(str(written(tmp_path, GOOD | {"target": [0, 0, 100, 100], "score": "boxes"})))
    assert judge("boxes", sample.target, deep) == {"iou": 1.0}


def test_choices_are_judged_by_sum_and_by_character():
    assert judge_choice(0, ["yes", "certainly"], [-3.0, -4.5]) == {"acc": 1.0, "acc_norm": 0.0}
    assert judge_choice(1, ["yes", "certainly"], [-3.0, -4.5]) == {"acc": 0.0, "acc_norm": 1.0}
    assert judge_choice(1, ["ab", "abcdefgh"], [-2.0, -7.9]) == {"acc": 0.0, "acc_norm": 1.0}
    assert judge_choice(0, ["a", "b"], [-1.0, -1.0]) == {"acc": 1.0, "acc_norm": 1.0}


def test_a_choice_is_cut_as_the_harness_does(fixtures):
    """Each as in HFLM._encode_pair: white space at the end of a context belongs to what follows."""
    model = load(fixtures / "tiny.gguf", backend="numpy")
    encode = model.tokenizer.encode
    for context, choice, follows in [
        ("The sky is", "blue", " blue"),
        ("The sky is", " blue", " blue"),
        ("The sky is  ", "blue", "  blue"),
        ("a:\n", "b", "\nb"),
    ]:
        prompt, ids = continued(model.tokenizer, model.encode_prompt(context, raw=True), choice, raw=True)
        assert prompt.token_ids == encode(context.rstrip())
        assert prompt.token_ids + ids == encode(context.rstrip() + follows)
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "It is"}]
    prompt, ids = continued(load().tokenizer, load().encode_prompt(said), "5", raw=False)
    assert load().tokenizer.decode(ids) == " 5"


# ---- statistics: figures of scipy 1.17.1 and statsmodels 0.15.0


def test_intervals():
    for right, n, low, high in [  # proportion_confint(method="wilson")
        (0, 10, 0.0, 0.27753279986288926),
        (37, 40, 0.8013576647568946, 0.9741639742254119),
        (1, 1, 0.2065493143772374, 1.0),
    ]:
        assert statistics.wilson(right, n) == pytest.approx((low, high), abs=1e-12)
        values = np.array([1.0] * right + [0.0] * (n - right))
        assert statistics.interval(values, True) == statistics.wilson(right, n)
    values = np.random.default_rng(1).random(40)
    low, high = statistics.interval(values, False)
    error = values.std(ddof=1) / math.sqrt(40)
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.01
    )
    assert statistics.interval(np.full(5, 0.7), False) == statistics.wilson(3.5, 5)


def test_right_and_wrong_in_pairs():
    for better, worse, p in [  # contingency_tables.mcnemar(exact=True)
        (0, 0, 1.0),
        (0, 6, 0.03125),
        (3, 9, 0.14599609375),
        (80, 40, 0.00033040001839131815),
        (5, 5, 1.0),
    ]:
        assert statistics.mcnemar(better, worse) == pytest.approx(p, rel=1e-9)
        assert statistics.mcnemar(worse, better) == pytest.approx(p, rel=1e-9)
    rng, hits, runs = np.random.default_rng(0), 0, 2000
    for _ in range(runs):  # the interval has the true difference in it, 95 times of 100
        b, c, _ = rng.multinomial(80, [0.15, 0.05, 0.8])
        low, high = statistics.agresti_min(int(b), int(c), 80)
        hits += low <= 0.1 <= high
    assert 0.93 < hits / runs < 0.98


def test_signs_flipped():
    d = np.array([0.5, -0.1, 0.2, 0.3, 0.0])
    every = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=5)]
    assert statistics.sign_flip(d) == np.mean([x >= 0.9 - 1e-12 for x in every])
    many = np.random.default_rng(3).normal(0.2, 1, 200)
    z = abs(many.sum()) / math.sqrt((many**2).sum())
    assert statistics.sign_flip(many) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01)
    assert statistics.sign_flip(np.zeros(3)) == 1.0


def test_as_many_samples_as_are_said_to_be_needed():
    """Of a difference of 0.1 and a mean square of 0.3 the normal distribution says 234, which find it 765
    times of 1,000."""
    for right, wrong in (0.2, 0.1), (0.06, 0.01), (0.1, 0):
        n = statistics.samples_needed(right - wrong, right + wrong, right + wrong)
        draws = np.random.default_rng(0).multinomial(n, [right, wrong, 1 - right - wrong], 5000)
        known = np.mean([statistics.mcnemar(b, c) < 0.05 for b, c, _ in draws.tolist()])
        assert known == pytest.approx(0.8, abs=0.015)
    assert statistics.samples_needed(1.0, 1.0, 1.0) == statistics.samples_needed(-0.2, 0.04, 1.0) == 6


def test_the_power_of_the_exact_test():
    """Every way in which samples can fall, by its probability; and that many suffice, but not one less."""

    def power(n: int, right: float, wrong: float) -> float:
        ways = ((b, c) for b in range(n + 1) for c in range(min(b, n - b + 1)))
        return sum(
            math.comb(n, b) * math.comb(n - b, c) * right**b * wrong**c * (1 - right - wrong) ** (n - b - c)
            for b, c in ways
            if statistics.mcnemar(b, c) < 0.05
        )

    for n, right, wrong in (40, 0.3, 0.1), (23, 0.75, 0.25), (9, 0.5, 0), (5, 1, 0), (6, 1, 0):
        assert statistics.power(n, right - wrong, right + wrong) == pytest.approx(
            power(n, right, wrong), abs=1e-9
        )
    for right, wrong in (0.3, 0.05), (0.2, 0.01), (0.25, 0.05), (0.5, 0.1):
        n = statistics.samples_needed(right - wrong, right + wrong, right + wrong)
        assert power(n, right, wrong) >= 0.8 > power(n - 1, right, wrong)
    seen = statistics.visible_with(60, 0.1, 0.1)
    assert power(60, seen, 0) == pytest.approx(0.8, abs=0.002)  # more than the tenth that was seen
    assert statistics.visible_with(60, 0.025, 0.1) == pytest.approx(seen / 2)  # each half as large
    assert statistics.visible_with(5, 1.0, 1.0) is None and statistics.visible_with(6, 1.0, 1.0) < 1


def test_of_very_many_samples_the_normal_distribution_says_the_same(monkeypatch):
    exact = statistics.samples_needed(0.06, 1.0, 1.0)
    monkeypatch.setattr(statistics, "MOST_PAIRS", exact - 100)
    assert statistics.samples_needed(0.06, 1.0, 1.0) == pytest.approx(exact, rel=0.01)
    assert (
        statistics.samples_needed(1e-6, 1.0, 1.0) > 7e12 and statistics.visible_with(10**9, 0.1, 0.1) < 1e-4
    )


def test_as_many_samples_as_flipped_signs_need(monkeypatch):
    """Sums that are not all of one size."""
    monkeypatch.setattr(statistics, "FLIPS", 2000)
    random = np.random.default_rng(0)
    d = np.array([0.5, 0.1, -0.2, 0.3, 0, 0, 0.05, -0.3, 0.4, 0.1])
    n = statistics.samples_needed(float(d.mean()), float((d * d).mean()), 0.8)
    known = np.mean([statistics.sign_flip(random.choice(d, n)) < 0.05 for _ in range(300)])
    assert 0.77 < known < 0.9


def test_the_order_in_which_answers_came_does_not_count():
    """Resamples and flips are drawn of them in the order of the samples, and so stand the rows."""
    draws = np.random.default_rng(0)

    def answer(line: int) -> Answer:
        sample = Sample("", line, f"id {line}", "cab"[line % 3], "", "boxes", [])
        return Answer(sample, "", {"iou": draws.random()})

    found = {model: {f"id {n}": answer(n) for n in range(start, 40)} for model, start in (("A", 4), ("B", 0))}
    mixed = {model: dict(sorted(given.items())) for model, given in found.items()}
    assert [*mixed["A"]] != [*found["A"]]
    rows = report.rows(found)
    assert [row.group for row in rows] == [*"cab", "all"] and rows == report.rows(mixed)


def test_verdicts():
    def told(first, second, shares=True):
        return report.verdict("A", "B", statistics.compare(np.array(first), np.array(second), shares))

    zeros, ones = [0.0] * 30, [1.0] * 30
    assert told(ones, ones).endswith("there is none on 90 % of such samples, or more (95 % sure)")
    assert "B beside A: 0 better, 30 worse of 30 samples: it is worse, by 100.0 points on these" in told(
        ones, zeros
    )
    assert "it is better" in told(zeros, ones)
    one = told(ones, [1.0] * 29 + [0.0])
    assert "0 better, 1 worse of 30 samples: this sample cannot tell (p = 1, McNemar, exact)" in one
    assert one.endswith("if it is 3.3 points, about 240 samples would show it, four times of five")
    four = told([1.0] * 4, [0.0] * 4)
    assert four.endswith(
        "(p = 0.12, McNemar, exact); if it is 100.0 points, about 6 samples would show it, four times of five"
    )
    tiny = told([0.5] * 4, [0.5001, 0.5001, 0.5, 0.5], False)
    assert "if it is 0.005 points, about " in tiny
    few = told([0.0] * 5 + [1.0], [1.0] * 5 + [1.0])
    assert "cannot tell (p = 0.062, McNemar, exact)" in few and "about 8 samples" in few
    assert told([0.0, 1.0], [1.0, 0.0]).endswith("it is too small to show any difference")
    assert "no difference was seen" in told([0.1 + 0.2, 0.5], [0.3, 0.5], False)
    even = told([0.0, 1.0, *ones], [1.0, 0.0, *ones])
    assert "cannot tell" in even and "it would show a difference of 23.6 points" in even
    assert "it is better, by 10.0 points on these (p = 0.0039, sign-flip)" in told(
        [0.5] * 9, [0.6] * 9, False
    )


# ---- the command


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A few of the samples that examples has, and their pictures."""
    folder = tmp_path_factory.mktemp("task")
    lines = TASK.read_text(encoding="utf-8").splitlines()
    kept = [
        line
        for line in lines
        if json.loads(line)["id"] in ("sums-3", "choice-2", "json-1", "boxes-1", "memory-1")
    ]
    (folder / "pictures").mkdir()
    shutil.copy(TASK.parent / "pictures/boxes-1.png", folder / "pictures")
    return written(folder, *kept)


def evaluate(*arguments) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_the_command(small, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    assert evaluate(small, "--output", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] and found["samples"] == 5 and found["cut_off"] == {shipped.MODEL.name: 0}
    rows = {(row["group"], row["score"]): row for row in found["results"]}
    names = [
        ("sums", "regex"),
        ("choice", "acc"),
        ("choice", "acc_norm"),
        ("memory", "includes"),
        ("json", "fields"),
    ]
    assert list(rows) == [*names, ("boxes", "iou"), ("all", "score")]
    assert all(rows[name]["value"] == 1 and rows[name]["samples"] == 1 for name in names)
    assert rows["all", "score"]["value"] == pytest.approx((4 + rows["boxes", "iou"]["value"]) / 5)
    assert all(row["difference"] is None for row in found["results"])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {line["id"] for line in lines} == {"sums-3", "choice-2", "json-1", "boxes-1", "memory-1"}
    choice = next(line for line in lines if line["id"] == "choice-2")
    best = max(choice["choices"], key=lambda c: c["logprob"])
    assert choice["answer"] == best["text"] and len(choice["choices"]) == 4


def test_answers_are_those_of_generate(small):
    """Whatever goes on beside them."""
    model = load()
    samples = [sample for sample in read_task(str(small)) if not sample.choices]
    found = {answer.sample.id: answer.text for answer in answers(model, samples, Options(parallel=3))}
    for sample in samples:
        alone = model.generate(sample.prompt, temperature=0, presence_penalty=0)
        assert found[sample.id] == "".join(alone).strip()


def test_those_before_one_that_cannot_be_read_are_answered(tmp_path):
    """Though all are of one portion: of a picture, and of a text that is too long."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    said, chosen = {"input": "Hello!", "target": "b"}, {"input": "a?", "target": 0, "choices": ["a", "b"]}
    long = "a " * 70
    for bad in {"images": ["bad.png"]}, {"choices": ["a", long], "target": 0}:
        task = written(tmp_path, said, chosen, GOOD | bad, said | {"id": "behind"}, chosen | {"id": "too"})
        model, given = load(context=64), []
        with pytest.raises(QwenRefError, match="line 3: "):
            for answer in answers(model, read_task(str(task)), Options(max_tokens=2)):
                given.append(answer.sample.id)
        assert {*given} - {"behind"} == {1, 2}


def test_two_models(small, tmp_path, capsys):
    for place in "ab":
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.gguf").symlink_to(shipped.MODEL)
    models = [tmp_path / place / "model.gguf" for place in "ab"]
    text = written(
        tmp_path,
        *(
            json.dumps({"input": f"What is 2 + {n}?", "target": f"= {2 + n}.", "score": "includes"})
            for n in range(3)
        ),
    )
    assert evaluate(text, *models) == 0
    told = capsys.readouterr()
    assert told.out.count("100.0 % [43.") == 2 and "+0.0 [-39.2, +39.2], p = 1" in told.out
    assert f"{models[1]} beside {models[0]}: 0 better, 0 worse of 3 samples" in told.out
    assert evaluate(text, models[0], models[0]) == 2
    assert "is there twice" in capsys.readouterr().err


def test_what_was_done_is_kept(small, tmp_path, capsys, monkeypatch):
    """After Ctrl-C, and where a sample's picture is broken."""
    from qwen_ref.evaluate.answers import answers as answered

    def interrupted(*arguments):
        for number, answer in enumerate(answered(*arguments)):
            if number == 2:
                assert len((tmp_path / "out").read_text().splitlines()) == 2  # there as soon as it is known
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr("qwen_ref.evaluate.answers.answers", interrupted)
    assert evaluate(small, "--output", tmp_path / "out") == 130
    told = capsys.readouterr()
    assert "2 of 5 samples were answered" in told.err and "all " in told.out
    assert len((tmp_path / "out").read_text().splitlines()) == 2
    monkeypatch.setattr("qwen_ref.evaluate.answers.answers", answered)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    lines = [{"input": f"What is {n} + 2?", "target": "5", "score": "includes"} for n in range(64)]
    broken = written(tmp_path, *lines, {"input": "?", "images": ["bad.png"], "target": "a"})
    assert evaluate(broken, "--limit", 65, "-n", 2) == 2
    told = capsys.readouterr()
    assert "64" in told.out and "64 answers were cut off, by -n 2" in told.err
    assert (
        f"{broken}: line 65: input: message 1: part 1: " in told.err
        or f"{broken}: line 65: input: " in told.err
    )


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--limit", 0], "--limit: 0 is less than 1"),
        (["-n", 0], "--max-tokens: 0 is less than 1"),
        (["--parallel", 0], "--parallel: 0 is less than 1"),
        (["--raw", "--thinking"], "--raw: without a chat template nobody is asked to think"),
        (["--no-thinking", "--thinking-budget", 3], "--thinking-budget: --no-thinking leaves nothing to end"),
        (["--raw"], "line 3: input: --raw: is for samples that are text"),
        (["--thinking"], "line 2: input: choices: the model would think before it chose"),
        (["--greedy", "--top-k", 3], "--top-k: --greedy takes the likeliest token"),
        (["--output", "/nowhere/out"], "/nowhere/out: cannot be written: No such file or directory"),
    ],
)
def test_options_that_make_no_sense(small, capsys, arguments, told):
    assert evaluate(small, *arguments) == 2
    assert told in capsys.readouterr().err


def test_a_task_is_required_and_a_model_is_not(capsys):
    assert evaluate() == 2
    assert "the following arguments are required: TASK; " in capsys.readouterr().err


def test_what_is_read_is_not_written(small, tmp_path, capsys):
    task = shutil.copytree(small.parent, tmp_path / "task") / small.name
    before = task.read_text()
    assert evaluate(task, "--output", task) == 2
    assert f"--output: {task} is read, too" in capsys.readouterr().err and task.read_text() == before
    picture = next((task.parent / "pictures").iterdir())
    pixels = picture.read_bytes()
    assert evaluate(task, "--output", picture) == 2
    assert f"--output: {picture} is read, too" in capsys.readouterr().err and picture.read_bytes() == pixels
    task.write_text(json.dumps({"input": "a", "images": [picture.as_uri()], "target": "b"}))
    assert evaluate(task, "--output", picture) == 2 and picture.read_bytes() == pixels
    task.write_text(before)
    (tmp_path / "out").write_text("earlier\n")
    assert evaluate(task, tmp_path / "none.gguf", "--output", tmp_path / "out") == 2
    assert "none.gguf" in capsys.readouterr().err and (tmp_path / "out").read_text() == "earlier\n"


def test_an_output_begins_with_the_first_answer(small, tmp_path, capsys):
    """A start that fails before leaves what was there, and none that was not."""
    broken, there, new = (tmp_path / name for name in ("broken.gguf", "there", "new"))
    broken.write_bytes(Path(shipped.MODEL).read_bytes()[:5000])
    there.write_text("earlier\n")
    for out in there, new:
        assert evaluate(small, broken, "--output", out) == 2
    assert there.read_text() == "earlier\n" and not new.exists()
    assert evaluate(small, "--output", there, "--limit", 1) == 0
    assert json.loads(there.read_text())["id"] == "sums-3"


def test_an_output_that_cannot_be_written_stays(tmp_path):
    """A full disk's first line; and of a link what it points to, which stays one."""
    new, there, link = (tmp_path / name for name in ("new", "there", "link"))
    there.write_text("earlier\n")
    link.symlink_to(new.name)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for out in there, new, link:
        with pytest.raises(QwenRefError, match="cannot be written: File too large"), lines_to(out) as write:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            try:
                write({})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {*tmp_path.iterdir()} == {there, link} and there.read_text() == "earlier\n"
    there.rename(new)
    with lines_to(link) as write:
        write({"n": 1})
        write({"n": 2})
    assert link.is_symlink() and new.read_text() == '{"n": 1}\n{"n": 2}\n'
    new.unlink()
    with pytest.raises(ZeroDivisionError), lines_to(link):
        new.unlink()  # another one was quicker
        raise ZeroDivisionError


def test_a_second_model_that_is_broken_leaves_the_first(small, tmp_path, capsys):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(shipped.MODEL).read_bytes()[:5000])
    assert evaluate(small, shipped.MODEL, broken, "--limit", 1) == 2
    told = capsys.readouterr()
    assert "broken.gguf" in told.err and "100.0 % [20.7, 100.0]" in told.out


def test_half_a_character_in_an_id(tmp_path, capsys):
    line = '{"id": "\\ud800", "input": "Hello!", "target": "x", "score": "includes"}'
    assert evaluate(written(tmp_path, line), "--output", tmp_path / "out", "-n", 2) == 0
    assert json.loads((tmp_path / "out").read_text())["id"] == "\ud800"


def test_drawn_where_a_sampling_option_is_given(small, monkeypatch):
    given = []
    monkeypatch.setattr(
        "qwen_ref.evaluate.answers.answers",
        lambda model, samples, options: given.append(options.sampling) or (answer for answer in ()),
    )
    for arguments in [], ["--temperature", 0.5], ["--seed", 1]:
        evaluate(small, *arguments)
    assert [options["temperature"] for options in given] == [0, 0.5, None]
    assert given[0]["presence_penalty"] == 0 and given[2]["seed"] == 1

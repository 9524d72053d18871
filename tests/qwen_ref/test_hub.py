"""Models by name, fetched from a stand-in for the hub on this machine."""

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from qwen_ref import QwenRefError, hub, load, shipped
from qwen_ref.cli import main
from qwen_ref.cli.pull import Bar

REPO = "unsloth/Qwen3.5-0.8B-GGUF"
MODEL, OTHER, MMPROJ = "Qwen3.5-0.8B-Q4_K_M.gguf", "Qwen3.5-0.8B-Q8_0.gguf", "mmproj-F16.gguf"
CHUNK = 1 << 16  # bytes that are sent at once


class Hub(ThreadingHTTPServer):
    """What huggingface.co answers of models: their files, with hashes, and the files, from any byte on.

    files     name -> bytes
    cut       name -> the connections to it break after so many bytes, one after another
    told      name -> the SHA-256 that is told, if not the right one
    sizes     name -> the size, likewise
    status    (status, X-Error-Code) of all answers
    page      what is answered instead of JSON
    slow      the second half of MODEL waits until it is no longer
    asked     (name, first byte) of each file that was asked for
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.cut, self.told, self.sizes, self.asked = {}, {}, {}, {}, []
        self.status, self.page, self.ranges, self.slow = None, None, True, False

    def handle_error(self, request, client):
        """A client that is killed is no error."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *about):
        pass

    def send(self, status, data, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        return data

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        if hub.status:
            self.wfile.write(self.send(hub.status[0], b"", X_Error_Code=hub.status[1]))
        elif path == f"/api/models/{REPO}":
            assert "blobs=" in self.path
            data = hub.page or json.dumps(self.about()).encode()
            self.wfile.write(self.send(200, data, Content_Type="application/json"))
        elif path.startswith(f"/{REPO}/resolve/{'c' * 40}/"):
            self.send_file(path.rpartition("/")[2])
        else:
            self.wfile.write(self.send(404, b"", X_Error_Code="RepoNotFound"))

    def about(self):
        def entry(name, data):
            sha256 = self.server.told.get(name) or hashlib.sha256(data).hexdigest()
            lfs = {"size": self.server.sizes.get(name, len(data)), "sha256": sha256, "pointerSize": 134}
            return {"rfilename": name, "size": len(data), "blobId": "b" * 40, "lfs": lfs}

        siblings = [entry(name, data) for name, data in self.server.files.items()]
        siblings.append({"rfilename": "README.md", "size": 3, "blobId": "b" * 40})
        return {"_id": "1", "id": REPO, "sha": "c" * 40, "siblings": siblings}

    def send_file(self, name):
        assert self.headers["Accept-Encoding"] == "identity"  # else a proxy may pack what is counted
        hub, first = self.server, int(self.headers.get("Range", "bytes=0-")[6:-1])
        hub.asked.append((name, first))
        first = first if hub.ranges else 0
        data = hub.files[name]
        headers = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if hub.ranges else {}
        rest = self.send(206 if hub.ranges else 200, data[first:], **headers)
        if cuts := hub.cut.get(name):
            self.wfile.write(rest[: cuts.pop(0)])
            self.close_connection = True
            return
        for at in range(0, len(rest), CHUNK):
            self.wfile.write(rest[at : at + CHUNK])
            while hub.slow and name == MODEL and at > len(rest) / 2:
                time.sleep(0.01)


@pytest.fixture(scope="module")
def server():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """The stand-in, as new, and an empty folder for models."""
    from huggingface_hub import constants

    server.__dict__.update(
        cut={}, told={}, sizes={}, asked=[], status=None, page=None, ranges=True, slow=False
    )
    server.files = {
        MODEL: shipped.MODEL.read_bytes(),
        OTHER: os.urandom(3000),
        MMPROJ: shipped.MODEL.with_name("mmproj-tiny-Q8_0.gguf").read_bytes(),
        "mmproj-F32.gguf": b"x",
        "imatrix.gguf": b"x",
        "BF16/Qwen3.5-0.8B-BF16.gguf": b"x",
        "../Qwen3.5-0.8B-Q4_K_M.gguf": b"x",
    }
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(hub, "WAIT", 0.01)
    for name, value in ("QWEN_REF_MODELS", str(tmp_path)), ("HF_ENDPOINT", server.url), ("NO_PROXY", "*"):
        monkeypatch.setenv(name, value)
    return SimpleNamespace(server=server, folder=tmp_path, place=tmp_path / REPO)


def names_in(place):
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_a_name_is_fetched_listed_used_and_deleted(here, capsys):
    with pytest.raises(
        QwenRefError, match=r"^qwen3.5:0.8b: is not on this machine; `python -m qwen_ref pull q"
    ):
        load("qwen3.5:0.8b")
    assert main(["pull", "qwen3.5:0.8b"]) == 0
    assert capsys.readouterr().out.startswith("qwen3.5:0.8b: ")
    assert names_in(here.folder) == [MODEL, MMPROJ]
    assert here.server.asked == [(MMPROJ, 0), (MODEL, 0)]
    for name in MODEL, MMPROJ:
        assert (here.place / name).read_bytes() == here.server.files[name]
    assert hub.resolve("Qwen3.5:0.8B") == (here.place / MODEL, here.place / MMPROJ)
    model = load("qwen3.5:0.8b")
    assert model.path == here.place / MODEL and model.vision.config.depth
    assert main(["generate", "--model", "qwen3.5:0.8b", "--prompt", "Hello", "--greedy", "-n", "3"]) == 0

    assert main(["pull", f"hf:{REPO}:q8_0"]) == 0
    assert main(["pull", "qwen3.5:0.8b"]) == 0 and len(here.server.asked) == 3  # nothing was missing
    capsys.readouterr()
    assert main(["list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["qwen3.5:0.8b", f"hf:{REPO}:Q8_0"]
    assert shown[0].endswith(f"MB  {MODEL}, {MMPROJ}")

    assert main(["rm", "qwen3.5:0.8b"]) == 0
    assert names_in(here.folder) == [OTHER, MMPROJ]
    assert main(["rm", f"hf:{REPO}"]) == 0 and list(here.folder.iterdir()) == []
    assert main(["rm", f"hf:{REPO}"]) == 2
    assert main(["list"]) == 0 and capsys.readouterr().err.endswith(f"none lie in {here.folder}\n")


def test_what_breaks_goes_on_where_it_ended(here):
    here.server.cut = {MODEL: [1000, 0, 5000]}
    hub.pull("qwen3.5:0.8b")
    assert [first for name, first in here.server.asked if name == MODEL] == [0, 1000, 1000, 6000]

    here.server.cut, here.server.asked = {OTHER: [1000] + hub.ATTEMPTS * [0]}, []
    with pytest.raises(
        QwenRefError, match=r"does not answer \(.*\); pull it again later, which goes on with what "
    ):
        hub.pull(f"hf:{REPO}:Q8_0")
    found = hub.find(f"hf:{REPO}:Q8_0")
    assert not found.whole and found.name == f"hf:{REPO}:Q8_0"
    with pytest.raises(QwenRefError, match="is here only in part; `python -m qwen_ref pull hf:"):
        hub.resolve(f"hf:{REPO}:Q8_0")
    here.server.asked = []
    assert hub.pull(f"hf:{REPO}:Q8_0").whole and here.server.asked == [(OTHER, 1000)]

    here.server.ranges, here.server.cut = False, {OTHER: [1000]}  # begins anew each time
    (here.place / OTHER).unlink()
    assert hub.pull(f"hf:{REPO}:Q8_0").files[0].read_bytes() == here.server.files[OTHER]


def test_an_interrupted_process_has_left_what_came(here):
    here.server.slow = True
    command = [sys.executable, "-m", "qwen_ref", "pull", "qwen3.5:0.8b"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while (
            not list(here.place.glob(f"{MODEL}.*.part"))
            or not next(here.place.glob(f"{MODEL}.*.part")).stat().st_size
        ):
            time.sleep(0.01)
        beside = subprocess.run(command, capture_output=True, text=True)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == b"qwen3.5:0.8b: what has come is kept, and the same command goes on\n"
    assert beside.returncode == 2 and beside.stderr.endswith("another process is fetching it\n")
    (part,) = here.place.glob("*.part")
    came, here.server.slow, here.server.asked = part.stat().st_size, False, []
    assert 0 < came < len(here.server.files[MODEL])
    assert hub.pull("qwen3.5:0.8b").whole and here.server.asked == [(MODEL, came)]
    assert names_in(here.folder) == [MODEL, MMPROJ]


def test_what_has_another_hash_is_refused_and_gone(here):
    here.server.told = {MODEL: "0" * 64}
    with pytest.raises(
        QwenRefError, match=rf"^{MODEL}: what came has not the hash that the hub gives, and is d"
    ):
        hub.pull("qwen3.5:0.8b")
    assert names_in(here.folder) == [MMPROJ]
    here.server.told = {}
    hub.pull("qwen3.5:0.8b")
    (here.place / MODEL).write_bytes(bytes(len(here.server.files[MODEL])))  # on the disk it has changed
    hub.pull("qwen3.5:0.8b")
    assert (here.place / MODEL).read_bytes() == here.server.files[MODEL]
    (here.place / f"{MODEL}.{hashlib.sha256(here.server.files[MODEL]).hexdigest()[:8]}.part").touch()
    hub.pull("qwen3.5:0.8b")
    assert names_in(here.folder) == [MODEL, MMPROJ]
    part = here.place / f"{OTHER}.{hashlib.sha256(here.server.files[OTHER]).hexdigest()[:8]}.part"
    part.write_bytes(b"not how it begins")
    with pytest.raises(QwenRefError, match="has not the hash"):
        hub.pull(f"hf:{REPO}:Q8_0")
    old = here.place / f"{OTHER}.00000000.part"  # of another version of the file
    old.write_bytes(b"x")
    hub.pull(f"hf:{REPO}:Q8_0")
    assert names_in(here.folder) == [MODEL, OTHER, MMPROJ]


def test_the_bar(capsys, monkeypatch):
    clock = iter([10.0, 10.01, 12.0, 12.05, 12.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    bar = Bar()
    for what, done in ("a", 10**6), ("a", 1_500_000), ("a", 5 * 10**6), ("a", 10**7), ("checking a", 10**7):
        bar.show(what, done, 10**7)
    assert capsys.readouterr().err.split("\r\033[K")[1:] == [
        "a [##..................] 1.0 MB of 10 MB",
        "a [##########..........] 5.0 MB of 10 MB, 2.0 MB/s, 2 s left",
        "a [####################] 10 MB of 10 MB, 4.4 MB/s, 0 s left",
        "checking a [####################] 10 MB of 10 MB",
    ]


def test_a_full_disk(here, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(
        QwenRefError, match=rf"^{here.place}: the disk has 1 MB free, and \d+ MB are to come$"
    ):
        hub.pull("qwen3.5:0.8b")
    assert here.server.asked == []
    parts = list(here.place.glob("*.part"))
    parts[0].write_bytes(here.server.files[MMPROJ if "mmproj" in parts[0].name else MODEL][:1000])
    free = len(here.server.files[MODEL]) + len(here.server.files[MMPROJ]) - 1001
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(QwenRefError, match="MB are to come"):
        hub.pull("qwen3.5:0.8b")
    free += 1  # what has come need not come again
    assert hub.pull("qwen3.5:0.8b").whole


def test_more_than_was_told(here):
    """The rest is not waited for, which may have no end."""
    here.server.sizes, seen = {OTHER: 1000}, [0]
    here.server.files[OTHER] = bytes(10 << 20)
    with pytest.raises(QwenRefError, match="has not the hash"):
        hub.pull(f"hf:{REPO}:Q8_0", lambda what, done, total: seen.append(done if what == OTHER else 0))
    assert 1000 < max(seen) < 5 << 20


def test_a_disk_that_fills_up(here, monkeypatch):
    """With less room than was said: what was written so far stays, under a name that is no model's."""
    room = 100_000

    class Small(hub._Download):
        def _append(self, file, progress):
            def write(data):
                if file.tell() + len(data) > room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return file.write(data)

            super()._append(SimpleNamespace(write=write, tell=file.tell, flush=file.flush), progress)

    monkeypatch.setattr(hub, "_Download", Small)
    with pytest.raises(QwenRefError, match=r"^.*: cannot be written: No space left on device$"):
        hub.pull("qwen3.5:0.8b")
    assert not [name for name in names_in(here.folder) if not name.endswith(".part")]
    room = 1 << 30
    assert hub.pull("qwen3.5:0.8b").whole


@pytest.mark.parametrize(
    "status, words",
    [
        ((401, "RepoNotFound"), rf"/{REPO} is not there, or private and your token not in HF_TOKEN$"),
        (
            (403, "GatedRepo"),
            rf"/{REPO} wants its terms accepted: do so there, and give your token in HF_TOKEN$",
        ),
        ((401, "GatedRepo"), "wants its terms accepted"),
        ((404, "RepoNotFound"), "is not there, or private"),
        ((503, ""), r"127.0.0.1 answers with status 503; what has come is kept, pull it again later$"),
    ],
)
def test_what_the_hub_refuses(here, status, words):
    here.server.status = status
    with pytest.raises(QwenRefError, match=rf"^qwen3.5:0.8b: .*{words}"):
        hub.pull("qwen3.5:0.8b")
    assert names_in(here.folder) == []


def test_what_is_not_in_a_repository(here):
    with pytest.raises(QwenRefError, match=rf"^hf:{REPO}:Q9: no Q9 is in {REPO}; it has Q4_K_M, Q8_0$"):
        hub.pull(f"hf:{REPO}:Q9")
    for page in (
        b"<html>Log in to this network</html>",
        b'{"siblings": [{"rfilename": "a.gguf", "lfs": 3}]}',
        b"[]",
    ):
        here.server.page = page
        with pytest.raises(QwenRefError, match=r"answers something else than the hub does$"):
            hub.pull("qwen3.5:0.8b")
    with pytest.raises(QwenRefError, match=r"/a/b is not there"):
        hub.pull("hf:a/b")
    assert names_in(here.folder) == []


def test_without_a_network(here, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(QwenRefError, match=rf"does not answer \(.+\); .* and put them into {here.place}$"):
        hub.pull("qwen3.5:0.8b")
    here.place.mkdir(parents=True)
    shutil.copy(shipped.MODEL, here.place / "by-hand-Q8_0.gguf")  # whatever it is, it is the only one
    assert load("qwen3.5:0.8b").path.name == "by-hand-Q8_0.gguf"
    assert [model.name for model in hub.stored()] == ["qwen3.5:0.8b"]


@pytest.mark.parametrize(
    "name", ["qwen3.5", "qwen3.5:1b", "qwen3.5:", "hf:a", "hf:../b", "hf:a/..", "hf:a/b:", "hf:a/b/c"]
)
def test_what_is_no_name(here, name):
    assert hub.is_name(name)
    with pytest.raises(QwenRefError, match=rf"^{name}: is no model's name; there are qwen3.5:0.8b, "):
        load(name)


def test_paths_are_no_names(here, monkeypatch):
    monkeypatch.chdir(here.folder)
    for path in "", "a.gguf", "./qwen3.5:0.8b", "qwen3.5.gguf", shipped.MODEL, None, 5:
        assert not hub.is_name(path) and hub.resolve(path) == (path, None)
    (here.folder / "qwen3.5:0.8b").touch()  # a file of this name goes first
    assert not hub.is_name("qwen3.5:0.8b")


def test_parts_of_a_split_model_are_one(here):
    here.server.files = {f"a-Q4_0-0000{n}-of-00002.gguf": b"x" * n for n in (1, 2)}
    found = hub.pull(f"hf:{REPO}")
    assert [path.name for path in found.files] == list(here.server.files) and found.vision is None
    assert hub.resolve(f"hf:{REPO}:Q4_0") == (found.files[0], None) and found.nbytes == 3
    hub.remove(f"hf:{REPO}")
    assert names_in(here.folder) == []
    here.server.files = dict.fromkeys(["a-UD-Q4_0.gguf", "a-Q4_0.gguf"], b"x")
    assert hub.pull(f"hf:{REPO}:Q4_0").files[0].name == "a-Q4_0.gguf"

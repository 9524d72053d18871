"""Models by name: which repository of the Hugging Face hub has them, where they lie here, and fetching them.

    qwen3.5:0.8b, qwen3.5:2b, qwen3.5:4b, qwen3.5:9b    a repository of the table below
    hf:OWNER/REPO[:QUANT]                               any repository of GGUF files

The files of a repository lie under their own names in FOLDER/OWNER/REPO, a model's beside its vision file.
That is all that is known of them: files which were put there by hand count like fetched ones. FOLDER is what
$QWEN_REF_MODELS says, or qwen_ref/models below $XDG_DATA_HOME (~/.local/share).

huggingface_hub says what a repository has, and speaks with the server. What one process of it began to fetch
the next one begins anew, and what came it does not compare with its hash: so both are done here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from qwen_ref.errors import QwenRefError

REPOSITORIES = {
    "qwen3.5:0.8b": "unsloth/Qwen3.5-0.8B-GGUF",
    "qwen3.5:2b": "unsloth/Qwen3.5-2B-GGUF",
    "qwen3.5:4b": "unsloth/Qwen3.5-4B-GGUF",
    "qwen3.5:9b": "unsloth/Qwen3.5-9B-GGUF",
}
QUANT = "Q4_K_M"  # of several, if the name does not say
VISION = "F16", "BF16", "Q8_0", "F32"  # of several vision files the first of these
IN_HUB = re.compile(r"hf:([A-Z0-9][\w.-]*/[A-Z0-9][\w.-]*)(?::([\w.-]+))?", re.ASCII | re.IGNORECASE)
GGUF = re.compile(r"(\w[\w.-]*)\.gguf", re.ASCII | re.IGNORECASE)  # a file's name; no folders in it
NO_MODEL = re.compile(r"mmproj|^mtp-|imatrix", re.IGNORECASE)
OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
TAG = re.compile(r"[-._]((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|BF16|F16|F32|MXFP4\w*))$", re.IGNORECASE)
BEGUN = re.compile(r"\.[0-9a-f]{8}\.part$")  # a file on its way, with the beginning of its hash

TIMEOUT = 30.0  # seconds without an answer
ATTEMPTS, WAIT = 5, 1.0  # that bring nothing, one after another; seconds between
CHUNK = 1 << 20

Progress = Callable[[str, int, int], None]  # called with (what is being done, bytes done, of how many)


@dataclass(frozen=True)
class Stored:
    """A model that lies here."""

    name: str
    files: list[Path]  # all parts of a split one, or what there is of it so far
    vision: Path | None

    @property
    def whole(self) -> bool:
        names = {path.name for path in self.files}
        return all(BEGUN.sub("", name) in names for name in names)

    @property
    def nbytes(self) -> int:
        return sum(path.stat().st_size for path in [*self.files, *([self.vision] if self.vision else [])])


def folder() -> Path:
    """Where models lie. Raises QwenRefError where there is no home folder."""
    if given := os.environ.get("QWEN_REF_MODELS"):
        return Path(given)
    try:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    except RuntimeError:
        raise QwenRefError("there is no home folder for models; QWEN_REF_MODELS can name one") from None
    return data / "qwen_ref/models"


# ---- what is here


def is_name(model: Any) -> bool:
    """Whether this is a model's name, and not that of a file or folder which is there."""
    if not isinstance(model, str) or not re.match(r"hf:|qwen3\.5(:|$)", model, re.IGNORECASE):
        return False
    return not os.path.exists(model)


def resolve(model: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], Path | None]:
    """The file of a model that may be a name, and its vision file, if one is fetched; a path stays as it is.

    Raises QwenRefError, with what to do, if nothing is here under the name.
    """
    if not is_name(model):
        return model, None
    name = str(model)
    found = find(name)
    if found is None or not found.whole:
        what = "is here only in part" if found else "is not on this machine"
        place = folder() / _read_name(name)[0]
        raise QwenRefError(
            f"{name}: {what}; `python -m qwen_ref pull {name}` fetches it, or put its files into {place}"
        )
    return found.files[0], found.vision


def find(name: str) -> Stored | None:
    """The model of this name; None if nothing of it is here. Raises QwenRefError if it is no model's name."""
    repo, quant = _read_name(name)
    names = _names(folder() / repo)
    stem = _choose(_models(names), quant)
    return None if stem is None else _stored(repo, names, stem)


def stored() -> list[Stored]:
    """All models that are here, in part too."""
    found, root = [], folder()
    for owner in _names(root):
        for repo in _names(root / owner):
            names = _names(root / owner / repo)
            found += [_stored(f"{owner}/{repo}", names, stem) for stem in _models(names)]
    return found


def remove(name: str) -> None:
    """Delete a model, and its vision file unless it is that of another one too.

    Raises QwenRefError if it is not here, or cannot be deleted.
    """
    repo, quant = _read_name(name)
    place = folder() / repo
    models = _models(names := _names(place))
    stem = _choose(models, quant)
    if stem is None:
        raise QwenRefError(f"{name}: is not on this machine; `python -m qwen_ref list` says what is")
    others = [] if len(models) > 1 else [n for n in names if "mmproj" in n.lower()]
    try:
        for file in [*models[stem], *others]:
            (place / file).unlink()
    except OSError as error:
        raise QwenRefError(f"{error.filename}: cannot be deleted: {error.strerror}") from None
    with contextlib.suppress(OSError):  # something else is in there
        place.rmdir()
        place.parent.rmdir()


def _read_name(name: str) -> tuple[str, str | None]:
    """A model's name -> its repository, and which quantization, if it says so."""
    if repo := REPOSITORIES.get(name.lower()):
        return repo, None
    if found := IN_HUB.fullmatch(name):
        return found[1], found[2]
    raise QwenRefError(
        f"{name}: is no model's name; there are {', '.join(REPOSITORIES)}, and hf:OWNER/REPO[:QUANT] for any "
        "repository of GGUF files"
    )


def _names(place: Path) -> list[str]:
    """What is in a folder, if there is one."""
    try:
        return sorted(entry.name for entry in place.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise QwenRefError(f"{place}: cannot be read: {error.strerror}") from None


def _models(names: Iterable[str]) -> dict[str, list[str]]:
    """Of a folder's or repository's files those of each text model, by what their names begin with."""
    models: dict[str, list[str]] = {}
    for name in sorted(names):
        found = GGUF.fullmatch(BEGUN.sub("", name))
        if found and not NO_MODEL.search(name):
            models.setdefault(OF_SPLIT.sub("", found[1]), []).append(name)
    return models


def _choose(models: Iterable[str], quant: str | None) -> str | None:
    """The model of this quantization; without one the only model, or that of QUANT."""
    models = list(models)
    if quant is None and len(models) == 1:
        return models[0]
    wanted = re.compile(rf"(^|[-._]){re.escape(quant or QUANT)}$", re.IGNORECASE)
    return min(filter(wanted.search, models), key=len, default=None)


def _choose_vision(names: Iterable[str]) -> str | None:
    files = sorted(name for name in names if GGUF.fullmatch(name) and "mmproj" in name.lower())
    tags = [(found[1].upper() if (found := TAG.search(name[:-5])) else "") for name in files]
    best = next((tags.index(tag) for tag in VISION if tag in tags), 0)
    return files[best] if files else None


def _stored(repo: str, names: list[str], stem: str) -> Stored:
    models, place = _models(names), folder() / repo
    name = next((name for name, known in REPOSITORIES.items() if known == repo), f"hf:{repo}")
    if _choose(models, None) != stem:
        tag = TAG.search(stem)
        name = f"hf:{repo}:{tag[1] if tag and _choose(models, tag[1]) == stem else stem}"
    vision = _choose_vision(names)
    return Stored(name, [place / file for file in models[stem]], place / vision if vision else None)


# ---- fetching


def pull(name: str, progress: Progress = lambda what, done, total: None) -> Stored:
    """Fetch a model and its vision file, or what is missing of them; what is here is compared with its hash.

    Raises QwenRefError if that cannot be done. What has come stays, and the next call goes on with it.
    """
    repo, quant = _read_name(name)
    place = folder() / repo
    with _told(name, repo, place):
        offered = _offered(name, repo)
        models = _models(offered)
        stem = _choose(models, quant)
        if stem is None:
            tags = [tag[1] if (tag := TAG.search(model)) else model for model in models]
            has = f"it has {', '.join(tags)}" if tags else "it has no GGUF model"
            raise QwenRefError(f"{name}: no {quant or QUANT} is in {repo}; {has}")
        vision = _choose_vision(offered)
        wanted = [*([vision] if vision else []), *models[stem]]  # with the model all is here
        downloads = [_Download(place / file, *offered[file]) for file in wanted]
        _make_room(place, downloads)
        for download in downloads:
            download.run(progress)
    found = find(f"hf:{repo}:{stem}")
    assert found
    return found


def _offered(name: str, repo: str) -> dict[str, tuple[str, int, str]]:
    """The GGUF files of a repository that come with a hash: (URL, size, SHA-256) of each."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = HfApi(library_name="qwen_ref")
    try:
        info = api.model_info(repo, files_metadata=True, timeout=TIMEOUT)
        found = {}
        for entry in info.siblings or []:
            if GGUF.fullmatch(entry.rfilename) and entry.lfs:
                url = f"{api.endpoint}/{repo}/resolve/{info.sha}/{quote(entry.rfilename)}"
                found[entry.rfilename] = url, int(entry.lfs.size), bytes.fromhex(entry.lfs.sha256).hex()
        return found
    except (HTTPError, OSError):
        raise
    except Exception:  # such as a page to log in to the network with
        raise QwenRefError(f"{name}: {api.endpoint} answers something else than the hub does") from None


@contextlib.contextmanager
def _told(name: str, repo: str, place: Path) -> Iterator[None]:
    """Whatever the hub, the network or the disk answers is one sentence."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise QwenRefError("pull: needs huggingface_hub: pip install 'qwen_ref[hub]'") from None
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        yield
    except GatedRepoError:
        raise QwenRefError(
            f"{name}: {page} wants its terms accepted: do so there, and give your token in HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise QwenRefError(
            f"{name}: {page} is not there, or private and your token not in HF_TOKEN"
        ) from None
    except HfHubHTTPError as error:
        raise QwenRefError(
            f"{name}: {error.response.url.host} answers with status {error.response.status_code}; what has "
            "come is kept, pull it again later"
        ) from None
    except (HTTPError, OfflineModeIsEnabled) as error:
        offline = isinstance(error, OfflineModeIsEnabled)
        wanted = f"its {quant} file" if (quant := _read_name(name)[1]) else f"a {QUANT} file"
        why = "HF_HUB_OFFLINE is set" if offline else str(error) or type(error).__name__
        raise QwenRefError(
            f"{name}: {constants.ENDPOINT} does not answer ({why}); pull it again later, which goes on with "
            f"what has come, or elsewhere fetch {wanted} and an mmproj file of {page}, and put them "
            f"into {place}"
        ) from None
    except OSError as error:
        raise QwenRefError(
            f"{error.filename or place}: cannot be written: {error.strerror or error}"
        ) from None


@dataclass(frozen=True)
class _Download:
    """A file on its way to `path`."""

    path: Path
    url: str
    size: int  # bytes
    sha256: str

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{self.sha256[:8]}.part")

    def run(self, progress: Progress) -> None:
        if self.path.exists() and self._is_right(self.path, progress):
            self.part.unlink(missing_ok=True)
            return
        with open(self.part, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise QwenRefError(f"{self.part}: another process is fetching it") from None
            except OSError:  # a file system without locks
                pass
            self._fetch(file, progress)
            if not self._is_right(self.part, progress):
                self.part.unlink()
                raise QwenRefError(
                    f"{self.path.name}: what came has not the hash that the hub gives, and is deleted; pull "
                    "it again"
                )
            os.fsync(file.fileno())
            os.replace(self.part, self.path)

    def _is_right(self, path: Path, progress: Progress) -> bool:
        if path.stat().st_size != self.size:
            return False
        digest, done = hashlib.sha256(), 0
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress(f"checking {path.name}", done, self.size)
        return digest.hexdigest() == self.sha256

    def _fetch(self, file: IO[bytes], progress: Progress) -> None:
        """Append what is missing, in several attempts if the connection breaks."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        attempts = 0
        while (before := file.tell()) < self.size:
            broken = HTTPError("the connection broke")
            try:
                self._append(file, progress)
            except HfHubHTTPError:
                raise
            except HTTPError as error:
                broken = error
            attempts = 0 if file.tell() > before else attempts + 1
            if attempts == ATTEMPTS:
                raise broken
            if file.tell() < self.size:
                time.sleep(WAIT)

    def _append(self, file: IO[bytes], progress: Progress) -> None:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(library_name="qwen_ref") | {"Accept-Encoding": "identity"}
        headers["Range"] = f"bytes={file.tell()}-"
        try:
            with get_session().stream("GET", self.url, headers=headers, timeout=TIMEOUT) as response:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                if response.status_code != 206:  # all of it comes
                    file.truncate(0)
                    file.seek(0)
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    progress(self.path.name, file.tell(), self.size)
                    if file.tell() > self.size:  # its hash will be wrong
                        return
        finally:
            file.flush()


def _make_room(place: Path, downloads: list[_Download]) -> None:
    """The folder, with a beginning of each file that is missing; older beginnings are deleted.

    Raises QwenRefError if all will not fit on the disk.
    """
    place.mkdir(parents=True, exist_ok=True)
    missing = 0
    for download in downloads:
        name, part = download.path.name, download.part
        for old in place.glob(f"{name}.*.part"):
            if old != part and BEGUN.search(old.name):
                old.unlink()
        if not download.path.exists() or download.path.stat().st_size != download.size:
            part.touch()
            missing += download.size - part.stat().st_size
    if missing > (free := shutil.disk_usage(place).free):
        raise QwenRefError(
            f"{place}: the disk has {free / 1e6:,.0f} MB free, and {missing / 1e6:,.0f} MB are to come"
        )

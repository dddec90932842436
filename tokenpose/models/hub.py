"""Models in folders and on a hub: "local-dir:folder", "hf-hub:user/name@revision", and uploading."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from torch import nn

from tokenpose.files import expand, shown
from tokenpose.models.weights import CONFIG_FILE, MOST_CONFIG, MOST_WEIGHTS, WEIGHTS_FILE, read_config, write_folder

logger = logging.getLogger(__name__)

LOCAL, HUB = "local-dir:", "hf-hub:"
PATIENCE, SLOWEST = 120, 20_000
"""A file has so many seconds to arrive, and one more for so many bytes."""

_LOG_IN = "log in (hf auth login, or HF_TOKEN)"
_ADVICE = ("For more information check", "This is usually due")  # a page about the status code; force_download=True


def is_location(name: str) -> bool:
    """Whether a model's name is a location instead of an architecture."""
    return name.startswith((LOCAL, HUB))


def find_folder(name: str) -> Path:
    """The folder of "local-dir:folder", or of "hf-hub:user/name@revision" after the download.

    Cache, token, endpoint and offline mode are huggingface_hub's (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE); the
    revision is a branch, a tag or a commit, the main branch where none is given.

    Raises FileNotFoundError for a folder that isn't there, LookupError where the hub has no such model or revision,
    ValueError for a malformed name and a model that tokenpose didn't write, PermissionError where the hub
    refuses, TimeoutError where it sends too slowly, and OSError where it can't be reached.
    """
    if name.startswith(LOCAL):
        folder = expand(name.removeprefix(LOCAL))
        if not name.removeprefix(LOCAL) or not folder.is_dir():
            raise FileNotFoundError(
                f"{shown(name)} is not an existing folder: give local-dir: and a folder that save_pretrained wrote"
            )
        return folder
    return _download(name)


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    card: Mapping[str, Any] | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload a TokenPose model",
    create_pr: bool = False,
) -> str:
    """Upload what `save_pretrained` writes to a hub, and return the commit's address.

    ``repo_id``: "user/name", created if it doesn't exist (``private``: visible to its owner only); afterwards
    ``create_model("hf-hub:user/name")`` loads it anywhere. ``token``, ``revision`` (a branch), ``commit_message`` and
    ``create_pr`` (a pull request to the main branch) as in huggingface_hub's ``upload_folder``. ``card`` as in
    `save_pretrained`.

    Raises ValueError for a malformed ``repo_id``, LookupError for a branch that doesn't exist,
    PermissionError where the hub refuses, and OSError where it can't be reached.
    """
    from huggingface_hub import HfApi

    if create_pr and revision is not None:
        raise ValueError(
            f"a pull request is for the main branch: give create_pr=True or revision={shown(revision)}, not both"
        )
    api = HfApi(token=token, library_name="tokenpose")
    with _errors_of_the_hub("upload", HUB + repo_id):
        made = api.create_repo(repo_id, private=private, exist_ok=True)
    repo_id = made.repo_id  # with the user, where that was left out
    with tempfile.TemporaryDirectory() as folder:
        write_folder(model, Path(folder), card, HUB + repo_id)
        with _errors_of_the_hub("upload", f"{HUB}{repo_id}@{revision or 'main'}"):
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message,
                create_pr=create_pr,
            )
    logger.info("uploaded to %s", commit.commit_url)
    return str(commit.commit_url)


def _download(name: str) -> Path:
    repo_id, separator, revision = name.removeprefix(HUB).partition("@")
    if separator and not revision:
        raise ValueError(f"{shown(name)} names no revision: give hf-hub:user/name@revision, or leave the @ out")
    config = _download_file(name, repo_id, CONFIG_FILE, revision or None)
    try:  # before the weights, which may be large and somebody else's
        read_config(config)
    except ValueError as error:
        raise ValueError(
            f"{name} is not a model that this version of tokenpose reads; its {CONFIG_FILE}: {error}"
        ) from error
    commit = config.parent.name  # of the cache's folder: both files from one commit
    return _download_file(name, repo_id, WEIGHTS_FILE, commit).parent


def _download_file(name: str, repo_id: str, file: str, revision: str | None) -> Path:
    """The file in huggingface_hub's cache, which has a folder for each commit; downloaded if it isn't there.

    Raises ValueError for a file that is larger than its kind can be, TimeoutError for a hub that sends it too slowly.
    """
    from huggingface_hub import hf_hub_download

    limits = _Limits(f"{name}: its {file}", MOST_CONFIG if file == CONFIG_FILE else MOST_WEIGHTS)

    def download() -> Path:
        with _errors_of_the_hub("download", name):
            path = hf_hub_download(
                repo_id, file, revision=revision, library_name="tokenpose", tqdm_class=_watched_by(limits)
            )
        return Path(path)

    return limits.run(download)


class _Limits:
    """How much a hub may send, and for how long: huggingface_hub waits for as much as a hub likes to send."""

    def __init__(self, what: str, most: int) -> None:
        self.what, self.most = what, most
        self.size, self.received = 0, 0
        self.is_over = False

    def check(self) -> None:
        """Raise OSError, which ends the download, for too much or too late."""
        if self.is_over or max(self.size, self.received) > self.most:
            raise OSError(f"{self.what} exceeds the limits")

    def run(self, download: Callable[[], Path]) -> Path:
        """Download in a thread, since nothing else ends the wait for a hub that sends a byte now and then."""
        outcome: Future[Path] = Future()

        def work() -> None:
            try:
                outcome.set_result(download())
            except BaseException as error:
                outcome.set_exception(error)

        start = time.monotonic()
        Thread(target=work, name="tokenpose-download", daemon=True).start()
        while not outcome.done():
            if time.monotonic() - start > PATIENCE + self.size / SLOWEST:
                self.is_over = True
                raise TimeoutError(f"{self.what} came too slowly, {self.received:,} bytes so far: try again later")
            wait((outcome,), timeout=0.1)
        if max(self.size, self.received) > self.most:
            raise ValueError(
                f"{self.what} is larger than such a file can be ({self.most:,} bytes): tokenpose didn't write it"
            )
        return outcome.result()


def _watched_by(limits: _Limits) -> Any:
    """A progress bar for huggingface_hub, which checks the limits: it is called with each piece that arrives."""
    from huggingface_hub.utils import tqdm

    class Watched(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            limits.size = options.get("total") or 0
            limits.check()
            super().__init__(*arguments, **options)

        def update(self, n: float | None = 1) -> bool | None:
            limits.received += int(n or 0)
            limits.check()
            return super().update(n)

    return Watched


@contextmanager
def _errors_of_the_hub(work: Literal["download", "upload"], name: str) -> Iterator[None]:
    """Turn huggingface_hub's errors into Python's own, in one line that says what to do."""
    from huggingface_hub import errors

    repo_id, _, revision = name.removeprefix(HUB).partition("@")
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(
            f"{shown(name)} is not a model on a hub: give hf-hub:user/name or hf-hub:user/name@revision"
        ) from error
    except errors.GatedRepoError as error:
        raise PermissionError(f"{name} is gated: ask for access on its page, then {_LOG_IN}") from error
    except errors.RepositoryNotFoundError as error:
        raise LookupError(f"the hub has no model {repo_id}, or it is private: check the name, or {_LOG_IN}") from error
    except errors.RevisionNotFoundError as error:
        raise LookupError(
            f"{HUB}{repo_id} has no branch, tag or commit {shown(revision or 'main')}: its page lists those it has"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(
            f"{name} is not in the cache, and the hub can't be asked ({_one_line(error.__cause__ or error)}): "
            "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE, then try again"
        ) from error
    except errors.EntryNotFoundError as error:
        raise LookupError(
            f"{name} holds no {WEIGHTS_FILE} with a {CONFIG_FILE} beside it, "
            "as push_to_hub and save_pretrained write them"
        ) from error
    except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:  # HTTPError: the HTTP library's, no OSError
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
            raise PermissionError(f"{name}: the hub refuses the {work} ({_one_line(error)}): {_LOG_IN}") from error
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise OSError(f"{name}: the {work} failed, try again: {_one_line(cause)}") from error


def _one_line(error: BaseException) -> str:
    """An error's message, without advice that doesn't apply to users of this package."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(_ADVICE))[:300]

"""Models in folders and on a hub: "local-dir:folder", "hf-hub:user/name@revision", and the way there."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import CONFIG_FILE, WEIGHTS_FILE, write_folder

logger = logging.getLogger(__name__)

LOCAL, HUB = "local-dir:", "hf-hub:"


def is_location(name: str) -> bool:
    """Whether a model's name says where it lies, instead of what it is."""
    return name.startswith((LOCAL, HUB))


def find_folder(name: str) -> Path:
    """The folder of "local-dir:folder", or of "hf-hub:user/name@revision" after the download.

    Cache, token, endpoint and offline mode are huggingface_hub's (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE); the
    revision is a branch, a tag or a commit, the main branch where none is given.

    Raises FileNotFoundError for a folder that isn't there, LookupError where the hub has no such model or revision,
    ValueError for a name that no hub could have, and OSError where the hub can't be reached or refuses.
    """
    if name.startswith(LOCAL):
        folder = Path(name.removeprefix(LOCAL)).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}, which {name!r} names")
        return folder
    return _download(name)


def push_to_hub(
    model: TokenPose,
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

    ``repo_id``: "user/name", made where it doesn't exist (``private``: for its owner only); afterwards
    ``create_model("hf-hub:user/name")`` loads it anywhere. ``token``, ``revision`` (a branch), ``commit_message`` and
    ``create_pr`` as in huggingface_hub's ``upload_folder``. ``card`` as in `save_pretrained`.

    Raises ValueError for a ``repo_id`` that no hub could have, LookupError for a branch that doesn't exist, and OSError
    where the hub can't be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="tokenpose")
    with tempfile.TemporaryDirectory() as folder, _errors_of_the_hub(HUB + repo_id, revision):
        write_folder(model, Path(folder), card, HUB + repo_id)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
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
    from huggingface_hub import hf_hub_download

    repo_id, _, revision = name.removeprefix(HUB).partition("@")
    with _errors_of_the_hub(name, revision):
        weights = Path(hf_hub_download(repo_id, WEIGHTS_FILE, revision=revision or None, library_name="tokenpose"))
        commit = weights.parent.name  # of the cache's folder: both files from one commit
        hf_hub_download(repo_id, CONFIG_FILE, revision=commit, library_name="tokenpose")
    return weights.parent


@contextmanager
def _errors_of_the_hub(name: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as Python's own, with what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{name!r} names no model of a hub: hf-hub:user/name or hf-hub:user/name@revision") from error
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{name} is gated: ask for access on its page, then log in (hf auth login, or HF_TOKEN)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise LookupError(
            f"the hub has no model {name.removeprefix(HUB)}, or it is private: check the name, or log in "
            "(hf auth login, or HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise LookupError(f"{name}: the model is there, but has no branch, tag or commit {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(
            f"{name} is not in the cache, and the hub can't be reached (or HF_HUB_OFFLINE is set): {_cause(error)}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise LookupError(
            f"{name} holds no {WEIGHTS_FILE} with a {CONFIG_FILE} beside it, so tokenpose didn't write it"
        ) from error
    except errors.HTTPError as error:  # of the HTTP library, which is not an OSError
        raise OSError(f"{name}: talking to the hub failed: {error}") from error


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split())[:300]

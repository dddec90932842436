"""Models in folders and on a hub. The hub is hub_server.py, the client huggingface_hub itself, in hub_client.py."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import RepoCard
from PIL import Image

from tokenpose.models.create import create_model
from tokenpose.models.hub import push_to_hub
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.skeletons import Skeleton

from .hub_client import digest
from .hub_server import Hub

NAMES = ("head", "hand", "foot", "tail", "paw")
CARD = {"trained on": "nothing", "samples": 3}
LARGE = 10 * 2**20  # bytes that huggingface_hub reads at once: what it has of less is lost with the connection


class Client:
    """Runs code in the client's process, with a cache of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path, cache: Path) -> None:
        self.process, self.log, self.cache = process, log, cache
        self.cause = ""  # the module of the last error's cause

    def run(self, code: str, token: str = "") -> list[str]:
        """What the code prints, in lines; an error fails the test."""
        said = self._ask(code, token)
        if said["error"]:
            pytest.fail(f"{said['error']}", pytrace=False)
        return said["printed"]

    def error(self, code: str, token: str = "") -> str:
        """The type and message of the error that the code raises, which has to be one line."""
        error = self._ask(code, token)["error"]
        assert error is not None, f"nothing was raised by {code}"
        assert "\n" not in error["message"]
        assert "Traceback" not in error["message"]
        self.cause = error["cause"]
        return f"{error['type']}: {error['message']}"

    def load(self, name: str, token: str = "") -> str:
        """The digest of the model of this name."""
        return self.run(f"print(digest(tokenpose.create_model({name!r})))", token)[0]

    def load_error(self, name: str, token: str = "") -> str:
        return self.error(f"tokenpose.create_model({name!r})", token)

    def _ask(self, code: str, token: str) -> dict:
        print(json.dumps({"code": code, "cache": str(self.cache), "token": token}), file=self.process.stdin, flush=True)
        limit = threading.Timer(120, self.process.kill)
        limit.start()
        line = self.process.stdout.readline()
        limit.cancel()
        if not line:
            pytest.fail(f"the client's process has ended: {self.log.read_text()[-5000:]}", pytrace=False)
        return json.loads(line)


@pytest.fixture(scope="module")
def listening() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def hub(listening) -> Hub:
    """A hub that holds nothing."""
    listening.reset()
    return listening


@pytest.fixture(scope="module")
def settings(listening, tmp_path_factory) -> dict[str, str]:
    """The client's environment. Xet, the hub's newer storage, isn't spoken here."""
    home = tmp_path_factory.mktemp("home")
    return {
        "HF_ENDPOINT": listening.endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "",
        "HUGGING_FACE_HUB_TOKEN": "",
        "no_proxy": "*",
    }


@pytest.fixture(scope="module")
def running(settings, tmp_path_factory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The client's process, and its standard error."""
    log = tmp_path_factory.mktemp("log") / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("hub_client.py")],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        yield process, log
        process.stdin.close()


@pytest.fixture
def client(running, hub, tmp_path) -> Client:
    return Client(*running, tmp_path / "cache")


@pytest.fixture
def model(tiny, build) -> TokenPose:
    return build(tiny.replace(skeleton=Skeleton.from_names(NAMES)))


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """The model as save_pretrained writes it."""
    save_pretrained(model, tmp_path / "saved", CARD)
    return tmp_path / "saved"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def uploaded(hub, folder) -> Hub:
    """The hub with the model as user/beast."""
    hub.put("user/beast", content(folder))
    return hub


@pytest.fixture
def large(hub, tiny, build, tmp_path) -> TokenPose:
    """A model whose weights come in more than one piece, on the hub as user/large."""
    model = build(tiny.replace(head_hidden=16384))
    save_pretrained(model, tmp_path / "large")
    hub.put("user/large", content(tmp_path / "large"))
    assert len(hub.files("user/large")["model.safetensors"]) > 1.2 * LARGE
    return model


def push(folder: Path, repo_id: str, **options: object) -> str:
    """Code that loads a folder, uploads it and prints what comes back."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"print(tokenpose.push_to_hub(tokenpose.create_model('local-dir:{folder}'), {repo_id!r}{given}))"


# Folders


@pytest.mark.parametrize("pretrained", [False, True])
def test_saved_folder_is_loaded_by_its_place(model, folder, pretrained):
    again = create_model(f"local-dir:{folder}", pretrained)
    assert digest(again) == digest(model)
    assert again.card == CARD
    assert again.newly_initialized == ()


@pytest.mark.parametrize("name", ["local-dir:saved", "local-dir:./saved/", "local-dir:~/saved"])
def test_place_may_be_relative_or_start_at_home(model, folder, monkeypatch, name):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert digest(create_model(name)) == digest(model)


def test_config_with_a_byte_order_mark_is_read_and_one_in_utf16_is_refused(model, tmp_path):
    save_pretrained(model, tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text()
    config.write_text(text, encoding="utf-8-sig")
    assert digest(create_model(f"local-dir:{tmp_path}")) == digest(model)
    config.write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"config\.json: it is UTF-16; save it as UTF-8$"):
        create_model(f"local-dir:{tmp_path}")


def test_folder_of_a_training_run_is_loaded_without_config(model, tmp_path):
    write_weights(model, tmp_path / "model.safetensors", CARD)
    assert digest(create_model(f"local-dir:{tmp_path}")) == digest(model)


def test_keypoints_of_a_folders_model_can_be_changed(folder):
    assert create_model(f"local-dir:{folder}", keypoints=["paw", "head"]).spec.skeleton.keypoints == ("paw", "head")


@pytest.mark.parametrize("place", ["", "nowhere", "saved/config.json"])
def test_missing_folder_is_refused(folder, monkeypatch, place):
    monkeypatch.chdir(folder.parent)
    message = f"'local-dir:{place}' is not an existing folder: give local-dir: and a folder that save_pretrained wrote"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        create_model(f"local-dir:{place}")


def test_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"^there is no weights file .*saved.model\.safetensors$"):
        create_model(f"local-dir:{folder}")


@pytest.mark.parametrize("name", ["local-dir:saved", "hf-hub:user/beast"])
def test_other_weights_for_a_place_are_refused(name):
    message = f"{name} has its own weights; give weights=... with an architecture's name"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        create_model(name, weights="other.safetensors")


# To the hub and back


def test_uploaded_model_comes_back_to_the_bit_with_its_card(hub, client, model, folder):
    (address,) = client.run(push(folder, "user/beast"), token="token-of-user")
    assert address == f"{hub.endpoint}/user/beast/commit/{hub.repositories['user/beast'].names['main']}"
    assert hub.files("user/beast").keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    said = client.run(
        "model = tokenpose.create_model('hf-hub:user/beast')\n"
        "print(digest(model), model.card, model.newly_initialized, model.training)"
    )
    assert said == [f"{digest(model)} {CARD} () False"]


def test_readme_says_what_hubs_read_and_how_to_load_it(hub, client, folder):
    client.run(push(folder, "beast"), token="token-of-user")  # the user's name is left out
    card = RepoCard(hub.files("user/beast")["README.md"].decode())
    assert card.data.to_dict() == {
        "library_name": "tokenpose",
        "pipeline_tag": "keypoint-detection",
        "tags": ["tokenpose", "pose-estimation"],
    }
    assert 'tokenpose.create_model("hf-hub:user/beast")' in card.text


def test_second_upload_is_a_second_commit(uploaded, client, folder, tiny, build):
    (first,) = uploaded.repositories["user/beast"].names.values()
    other = build(tiny, seed=1)
    save_pretrained(other, folder)
    client.run(push(folder, "user/beast", commit_message="Learn more"), "token-of-user")
    assert uploaded.asked("POST", "/commit/main")[0].body.startswith(
        b'{"key": "header", "value": {"summary": "Learn more"'
    )
    assert client.load("hf-hub:user/beast") == digest(other)
    assert client.load(f"hf-hub:user/beast@{first}") != digest(other)


def test_uploaded_model_comes_back_where_huggingface_hub_would_use_xet(hub, client, model, folder):
    hub.large = ()  # xet itself isn't spoken here, but its way of committing is another one
    xet = "huggingface_hub.constants.HF_HUB_DISABLE_XET = {}"
    code = f"try: {xet.format(False)}; {push(folder, 'user/beast')}\nfinally: {xet.format(True)}"
    (address,) = client.run(code, token="token-of-user")
    assert address == f"{hub.endpoint}/user/beast/commit/{hub.repositories['user/beast'].names['main']}"
    assert client.load("hf-hub:user/beast") == digest(model)


def test_upload_to_a_branch_leaves_main_alone(uploaded, client, folder, tiny, build):
    uploaded.put("user/beast", {}, "dev")
    other = build(tiny, seed=1)
    save_pretrained(other, folder)
    before = uploaded.repositories["user/beast"].names["main"]
    client.run(push(folder, "user/beast", revision="dev"), token="token-of-user")
    assert uploaded.repositories["user/beast"].names["main"] == before
    assert client.load("hf-hub:user/beast@dev") == digest(other)


def test_pull_request_to_somebody_elses_model(uploaded, client, folder, tiny, build):
    other = build(tiny, seed=1)
    save_pretrained(other, folder)
    before = uploaded.repositories["user/beast"].names["main"]
    (address,) = client.run(push(folder, "user/beast", create_pr=True), token="token-of-guest")
    names = uploaded.repositories["user/beast"].names
    assert names["main"] == before
    assert address == f"{uploaded.endpoint}/user/beast/commit/{names['refs/pr/1']}"
    assert client.load("hf-hub:user/beast@refs/pr/1") == digest(other)


def test_pull_request_to_a_branch_is_refused(model):
    message = "a pull request is for the main branch: give create_pr=True or revision='dev', not both"
    with pytest.raises(ValueError, match=message):
        push_to_hub(model, "user/beast", revision="dev", create_pr=True)


@pytest.mark.parametrize("private", [True, False, None])
def test_model_is_private_where_that_is_asked_for(hub, client, folder, private):
    client.run(push(folder, "user/beast", private=private), token="token-of-user")
    assert hub.repositories["user/beast"].private is bool(private)


@pytest.mark.parametrize(("given", "in_environment"), [("token-of-user", ""), (None, "token-of-user")])
def test_token_goes_to_the_hub_and_not_to_its_storage(hub, client, folder, given, in_environment):
    client.run(push(folder, "user/beast", private=True, token=given), in_environment)
    client.load("hf-hub:user/beast", "token-of-user")
    stored = [request for request in hub.requests if request.path.startswith("/storage/")]
    assert [request.method for request in stored] == ["PUT", "GET"]
    assert {request.authorization for request in stored} == {None}
    assert {request.authorization for request in hub.requests if request not in stored} == {"Bearer token-of-user"}


# What to load


def test_revision_is_a_branch_a_tag_or_a_commit(hub, client, tiny, build, tmp_path):
    models, commits = [build(tiny, seed=seed) for seed in range(3)], []
    for model, name in zip(models, ("main", "v1.0", "dev/next"), strict=True):
        save_pretrained(model, tmp_path / "saved")
        commits.append(hub.put("user/beast", content(tmp_path / "saved"), name))
    for model, revisions in zip(models, (["", "@main"], ["@v1.0"], ["@dev/next"]), strict=True):
        for revision in revisions:
            assert client.load(f"hf-hub:user/beast{revision}") == digest(model)
    hub.requests.clear()
    for model, commit in zip(models, commits, strict=True):
        assert client.load(f"hf-hub:user/beast@{commit}") == digest(model)
    assert hub.requests == []  # what a commit is can't change, and it is in the cache


def test_keypoints_and_image_size_of_a_hubs_model_can_be_changed(uploaded, client, folder):
    changes = "keypoints=['paw', 'head'], image_size=(128, 96)"
    code = f"print(digest(tokenpose.create_model('{{}}', {changes})))"
    assert client.run(code.format("hf-hub:user/beast")) == client.run(code.format(f"local-dir:{folder}"))


# The cache


def test_second_load_asks_once_and_downloads_nothing(uploaded, client, model):
    client.load("hf-hub:user/beast")
    assert len(uploaded.asked("GET", "config.json")) == 1
    uploaded.requests.clear()
    assert client.load("hf-hub:user/beast") == digest(model)
    assert [request.method for request in uploaded.requests] == ["HEAD"]


def test_new_commit_is_loaded_and_what_did_not_change_is_not_downloaded_again(uploaded, client, folder, model, build):
    client.load("hf-hub:user/beast")
    other = build(model.spec, seed=1)
    save_pretrained(other, folder, CARD)
    uploaded.put("user/beast", content(folder))
    uploaded.requests.clear()
    assert client.load("hf-hub:user/beast") == digest(other)
    assert [request.path.split("/")[1] for request in uploaded.asked("GET")] == ["storage"]


def test_without_the_hub_the_cache_is_enough(uploaded, client, model):
    client.load("hf-hub:user/beast")
    with uploaded.down():
        assert client.load("hf-hub:user/beast") == digest(model)


def test_offline_mode_takes_the_cache_and_says_so_where_that_is_empty(uploaded, client, model, settings, run_python):
    client.load("hf-hub:user/beast")
    uploaded.requests.clear()
    code = (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
        "from hub_client import digest, tokenpose\n"
        "print(digest(tokenpose.create_model('hf-hub:user/beast')))\n"
        "try: tokenpose.create_model('hf-hub:user/other')\n"
        "except OSError as error: print(error)\n"
        "try: tokenpose.push_to_hub(tokenpose.create_model('hf-hub:user/beast'), 'user/other')\n"
        "except OSError as error: print(error)\n"
    )
    offline = {**settings, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(client.cache)}
    said = run_python(code, environment=offline).stdout.splitlines()
    address = f"{uploaded.endpoint}/user/other/resolve/main/config.json"
    assert said == [
        digest(model),
        f"hf-hub:user/other is not in the cache, and the hub can't be asked (Cannot reach {address}: offline mode is "
        "enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.): check the connection, "
        "HF_ENDPOINT and HF_HUB_OFFLINE, then try again",
        f"hf-hub:user/other: the upload failed, try again: Cannot reach {uploaded.endpoint}/api/repos/create: offline "
        "mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
    ]
    assert uploaded.requests == []


# Interruptions


def test_interrupted_download_goes_on_where_it_stopped(hub, client, large):
    hub.drop_at, hub.drops = LARGE + 1_000_000, 1
    assert client.load("hf-hub:user/large") == digest(large)
    first, second = (request for request in hub.asked("GET") if request.path.startswith("/storage/"))
    assert (first.range, second.range) == (None, f"bytes={LARGE}-")


@pytest.mark.parametrize(
    ("hard", "reason"), [(False, "peer closed connection"), (True, r"\[Errno \d+\] Connection reset")]
)
def test_download_that_is_always_interrupted_leaves_nothing_behind(hub, client, large, hard, reason):
    hub.drop_at, hub.drop_hard = LARGE + 1_000_000, hard
    message = f"OSError: hf-hub:user/large: the download failed, try again: {reason} .*"
    assert re.fullmatch(message, client.load_error("hf-hub:user/large"))
    kept = [path.name for path in client.cache.rglob("snapshots/*/*")]
    assert kept == ["config.json"]
    hub.drop_at = None
    assert client.load("hf-hub:user/large") == digest(large)


def test_slow_hub_is_waited_for(uploaded, client, model):
    uploaded.delays = [0.8]
    limit = "huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT = {}"  # seconds, of the first attempt
    load = "print(digest(tokenpose.create_model('hf-hub:user/beast')))"
    assert client.run(f"try: {limit.format(0.4)}; {load}\nfinally: {limit.format(10)}") == [digest(model)]
    assert len(uploaded.asked("HEAD", "config.json")) == 2


def test_upload_that_fails_changes_nothing(uploaded, client, folder, tiny, build):
    before = uploaded.files("user/beast")
    save_pretrained(build(tiny, seed=1), folder)
    uploaded.statuses["PUT"] = 500
    said = client.error(push(folder, "user/beast"), "token-of-user")
    assert said.startswith(
        "OSError: hf-hub:user/beast@main: the upload failed, try again: Server error '500 Internal Server Error' for "
        "url 'http://localhost:"
    )
    assert uploaded.files("user/beast") == before


# Refusals, as they are printed


@pytest.mark.parametrize("token", ["", "token-of-guest"])
def test_missing_model_and_a_private_one_are_not_told_apart(hub, client, folder, token):
    hub.put("user/secret", content(folder), private=True)
    for name in ("user/secret", "user/none"):
        assert client.load_error(f"hf-hub:{name}", token) == (
            f"LookupError: the hub has no model {name}, or it is private: check the name, or log in (hf auth login, or "
            "HF_TOKEN)"
        )
        assert client.cause == "huggingface_hub.errors"


def test_gated_model_is_refused(hub, client, folder):
    hub.put("user/gated", content(folder), gated=True)
    assert client.load_error("hf-hub:user/gated") == (
        "PermissionError: hf-hub:user/gated is gated: ask for access on its page, then log in (hf auth login, or "
        "HF_TOKEN)"
    )
    client.load("hf-hub:user/gated", "token-of-user")


def test_token_that_the_hub_does_not_know_is_refused(uploaded, client):
    assert client.load_error("hf-hub:user/beast", "old") == (
        "PermissionError: hf-hub:user/beast: the hub refuses the download (Client error '401 Unauthorized' for url "
        f"'{uploaded.endpoint}/user/beast/resolve/main/config.json' Invalid credentials in Authorization header): "
        "log in (hf auth login, or HF_TOKEN)"
    )


def test_missing_revision_is_refused(uploaded, client, folder):
    said = "LookupError: hf-hub:user/beast has no branch, tag or commit 'none': its page lists those it has"
    assert client.load_error("hf-hub:user/beast@none") == said
    assert client.error(push(folder, "user/beast", revision="none"), "token-of-user") == said


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_model_without_weights_or_config_is_refused(hub, client, folder, missing):
    (folder / missing).unlink()
    hub.put("user/half", content(folder))
    assert client.load_error("hf-hub:user/half") == (
        "LookupError: hf-hub:user/half holds no model.safetensors with a config.json beside it, as push_to_hub and "
        "save_pretrained write them"
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"{", "a model spec must be JSON; got '{': "),
        (b'{"model_type": "bert"}', "this spec has format_version None; this tokenpose reads 1: upgrade tokenpose"),
        (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_somebody_elses_config_is_refused_before_the_weights_are_downloaded(hub, client, folder, config, said):
    hub.put("user/other", {**content(folder), "config.json": config})
    expected = (
        f"ValueError: hf-hub:user/other is not a model that this version of tokenpose reads; its config.json: {said}"
    )
    assert client.load_error("hf-hub:user/other").startswith(expected)
    assert [request.path for request in hub.asked("GET")] == ["/user/other/resolve/main/config.json"]


def test_config_that_says_something_else_than_the_weights_is_refused(hub, client, folder, model):
    lie = ModelSpec.to_json(model.spec.replace(sigma=3.0)).encode()
    hub.put("user/liar", {**content(folder), "config.json": lie})
    assert re.fullmatch(
        r"ValueError: \S+config\.json is not the spec of the weights beside it: it says sigma 3\.0",
        client.load_error("hf-hub:user/liar"),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights[:-1000], r"\S+model\.safetensors is not a whole safetensors file: .*"),
        (lambda weights: weights.replace(b'width\\": 48', b'width\\": 96'), r"\S+: the weights don't fit the spec: .*"),
        (lambda weights: weights[:-4] + b"\x00\x00\xc0\x7f", r"\S+ holds values that are not finite, in \S+"),
    ],
)
def test_broken_weights_are_refused(hub, client, folder, change: Callable[[bytes], bytes], said):
    files = content(folder)
    broken = change(files["model.safetensors"])
    assert broken != files["model.safetensors"]
    hub.put("user/broken", {**files, "model.safetensors": broken})
    assert re.fullmatch(f"ValueError: {said}", client.load_error("hf-hub:user/broken"))


def test_file_that_is_shorter_than_the_hub_says_is_refused(uploaded, client):
    uploaded.storage = {sha256: stored[:-1000] for sha256, stored in uploaded.storage.items()}
    assert re.fullmatch(
        r"OSError: hf-hub:user/beast: the download failed, try again: Consistency check failed: file should be of size "
        r"\d+ but has size \d+ .*\.",
        client.load_error("hf-hub:user/beast"),
    )
    assert [path.name for path in client.cache.rglob("snapshots/*/*")] == ["config.json"]


def test_hub_that_is_down_is_named(uploaded, client, folder):
    with uploaded.down():
        load = client.load_error("hf-hub:user/beast")
        upload = client.error(push(folder, "user/beast"), "token-of-user")
    refused = r"\[Errno \d+\] Connection refused"
    assert re.fullmatch(
        rf"OSError: hf-hub:user/beast is not in the cache, and the hub can't be asked \({refused}\): "
        "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE, then try again",
        load,
    )
    assert re.fullmatch(rf"OSError: hf-hub:user/beast: the upload failed, try again: {refused}", upload)


@pytest.mark.parametrize(("status", "reason"), [(500, "Internal Server Error"), (503, "Service Unavailable")])
def test_hub_in_trouble_is_named(uploaded, client, status, reason):
    uploaded.statuses["HEAD"] = status
    assert client.load_error("hf-hub:user/beast") == (
        "OSError: hf-hub:user/beast is not in the cache, and the hub can't be asked (Server error "
        f"'{status} {reason}' for url '{uploaded.endpoint}/user/beast/resolve/main/config.json'): "
        "check the connection, HF_ENDPOINT and HF_HUB_OFFLINE, then try again"
    )
    uploaded.statuses = {"GET": status}
    assert client.load_error("hf-hub:user/beast") == (
        f"OSError: hf-hub:user/beast: the download failed, try again: Server error '{status} {reason}' for url "
        f"'{uploaded.endpoint}/user/beast/resolve/main/config.json'"
    )


def test_upload_without_a_right_to_it_is_refused(uploaded, client, folder):
    assert client.error(push(folder, "user/new")) == (
        "PermissionError: hf-hub:user/new: the hub refuses the upload (Client error '401 Unauthorized' for url "
        f"'{uploaded.endpoint}/api/repos/create' Invalid username or password.): log in (hf auth login, or HF_TOKEN)"
    )
    assert client.error(push(folder, "user/beast"), "token-of-guest") == (
        "PermissionError: hf-hub:user/beast@main: the hub refuses the upload (403 Forbidden: You have read access to "
        "user/beast but not the required permissions for this operation. Cannot access content at: "
        f"{uploaded.endpoint}/api/models/user/beast/preupload/main. Make sure your token has the correct permissions."
        "): log in (hf auth login, or HF_TOKEN)"
    )


@pytest.mark.parametrize("name", ["a b", "", "a/b/c", "a/b/c@main", "user/--", "user/name.git"])
def test_names_that_no_hub_could_have_are_refused(hub, client, folder, name):
    said = f"ValueError: {'hf-hub:' + name!r} is not a model on a hub: give hf-hub:user/name or "
    said += "hf-hub:user/name@revision"
    assert client.load_error(f"hf-hub:{name}") == said
    assert client.error(push(folder, name)) == said
    assert hub.requests == []


def test_revision_that_is_left_empty_is_refused(hub, client):
    assert client.load_error("hf-hub:user/beast@") == (
        "ValueError: 'hf-hub:user/beast@' names no revision: give hf-hub:user/name@revision, or leave the @ out"
    )


# The command


@pytest.fixture
def photo(tmp_path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_command_predicts_with_a_hubs_model(uploaded, settings, run_python, photo, tmp_path):
    command = ["tokenpose", "predict", "photo.png", "--model", "hf-hub:user/beast", "--box", "5,5,50,50"]
    code = f"import sys; sys.argv = {command}; from tokenpose.cli import main; main()"
    assert run_python(code, environment=settings).stdout == "1 person in 1 image: poses/photo.poses.png\n"
    (category,) = json.loads((tmp_path / "poses" / "photo.json").read_text())["categories"]
    assert category["keypoints"] == list(NAMES)


def test_command_says_in_a_line_what_is_wrong(hub, client, photo):
    command = ["predict", str(photo), "--model", "hf-hub:user/none", "--box", "5,5,50,50"]
    said = client.run(
        "from tokenpose.cli import app\n"
        "from typer.testing import CliRunner\n"
        f"result = CliRunner().invoke(app, {command})\n"
        "print(result.exit_code, result.output, end='')"
    )
    assert said == [
        "1 error: the hub has no model user/none, or it is private: check the name, or log in (hf auth login, or "
        "HF_TOKEN)"
    ]


# Hubs that send too much, or too slowly


def test_a_file_that_is_larger_than_its_kind_is_not_downloaded(uploaded, client):
    uploaded.claims = 5_000_000
    error = client.load_error("hf-hub:user/beast")
    assert error == (
        "ValueError: hf-hub:user/beast: its config.json is larger than such a file can be (1,000,000 bytes): tokenpose "
        "didn't write it"
    )


def test_a_file_without_an_end_is_not_downloaded(uploaded, client):
    uploaded.pieces = (b"x" * 1_000_000, 0)
    error = client.load_error("hf-hub:user/beast")
    assert "its config.json is larger than such a file can be (1,000,000 bytes)" in error
    assert client.cache.exists()
    assert sum(path.stat().st_size for path in client.cache.rglob("*") if path.is_file()) < 30_000_000


def test_a_hub_that_sends_a_byte_now_and_then_is_left(uploaded, client):
    uploaded.pieces = (b" ", 0.05)
    code = "import tokenpose.models.hub as hub; hub.PATIENCE = 1; tokenpose.create_model('hf-hub:user/beast')"
    began = time.monotonic()
    error = client.error(code)
    assert error == "TimeoutError: hf-hub:user/beast: its config.json came too slowly, 0 bytes so far: try again later"
    assert time.monotonic() - began < 20
    uploaded.pieces = None
    client.run("import tokenpose.models.hub as hub; hub.PATIENCE = 120")


def test_a_hub_that_does_not_answer_is_left(uploaded, client):
    uploaded.delays = [3, 3, 3]
    code = "import tokenpose.models.hub as hub; hub.PATIENCE = 1; tokenpose.create_model('hf-hub:user/beast')"
    assert client.error(code).startswith("TimeoutError: hf-hub:user/beast: its config.json came too slowly, 0 bytes")
    client.run("import tokenpose.models.hub as hub; hub.PATIENCE = 120")

"""Models of the Hugging Face hub: from the local cache that its library keeps, else fetched into it.

The cache has a folder `models--org--name` a model: `refs/<revision>` holds a commit, and `snapshots/<commit>/` the
model's files (https://huggingface.co/docs/huggingface_hub/guides/manage-cache). Reading it needs no library, fetching
needs the extra `hf`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.shards import INDEX, weight_files

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]*", re.ASCII)

SMALL_FILES = (
    "config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
"""What is fetched of a model beside its weights, where it is there."""


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of the hub's, `org/name`."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def hub_cache() -> Path:
    """The folder in which the hub's library keeps models: $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub."""
    if found := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(found).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def hub_model(name: str, revision: str | None = None, *, weights: bool = True) -> Path:
    """The folder of a model of the hub, fetched if it is not there as a whole.

    Args:
        name: `org/name`.
        revision: a branch, a tag or a commit; "main" by default.
        weights: whether they are needed, or shapes are enough.

    Raises:
        WorkloadError: it is not there and cannot be fetched; the message says what to do.

    Example:
        >>> hub_model("HuggingFaceTB/SmolLM2-135M").name      # a commit
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise WorkloadError(f"revision {revision!r} is no branch, tag or commit")
    folder = _snapshot(name, revision or "main")
    if folder is not None and (folder / "config.json").exists() and not (weights and _missing(folder)):
        return folder
    return _fetch(name, revision, weights)


def _snapshot(name: str, revision: str) -> Path | None:
    """The folder of a revision in the cache."""
    model = hub_cache() / f"models--{name.replace('/', '--')}"
    reference = model / "refs" / revision
    commit = reference.read_text(errors="replace").strip() if reference.is_file() else revision
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        return None
    folder = model / "snapshots" / commit
    return folder if folder.is_dir() else None


def _missing(folder: Path) -> list[str]:
    """Files with weights that a folder lacks: the one of a small model, or shards that its index names."""
    return [name for name in weight_files(folder) if not (folder / name).exists()]


def _fetch(name: str, revision: str | None, weights: bool) -> Path:
    """The folder, with the files that are needed and no others (a repository may hold its weights several times)."""
    download = _downloader(name, revision)

    def fetch(files: Any) -> Path:
        try:
            return Path(download(name, revision=revision, allow_patterns=list(files), cache_dir=hub_cache()))
        except Exception as error:  # of many kinds, the network's among them
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = reason if len(reason) <= 120 else f"{reason[:120]}..."
            raise WorkloadError(
                f"{_absent(name, revision)}, and it cannot be fetched ({reason}): {_by_hand(name, revision)}"
            ) from error

    folder = fetch(SMALL_FILES)
    if not (folder / "config.json").exists():
        raise WorkloadError(f"{name} on the Hugging Face hub has no config.json: it is no model in the usual layout")
    if weights and _missing(folder):
        folder = fetch(weight_files(folder))
        if missing := _missing(folder):
            raise WorkloadError(
                f"{name} on the Hugging Face hub has no {missing[0]}: give a revision with safetensors (of many "
                "models refs/pr/1), or save it so: transformers' model.save_pretrained(folder)"
            )
    return folder


def _downloader(name: str, revision: str | None) -> Callable[..., str]:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline:
        raise WorkloadError(f"{_absent(name, revision)}, and HF_HUB_OFFLINE is set: {_by_hand(name, revision)}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise WorkloadError(
            f"{_absent(name, revision)}; to fetch it, install the extra: pip install 'pim-emulator[hf]'; or "
            f"{_by_hand(name, revision)}"
        ) from None
    return snapshot_download


def _absent(name: str, revision: str | None) -> str:
    at = "" if revision is None else f" (revision {revision})"
    return f"no folder {name!r}, and the model of that name{at} is not, or not whole, in the hub's cache {hub_cache()}"


def _by_hand(name: str, revision: str | None) -> str:
    """How to bring a model to a machine that has no network."""
    at = "" if revision is None else f" --revision {revision}"
    command = f'hf download {name}{at} --include "*.json" "*.txt" "model*.safetensors" --local-dir DIR'
    return f"where there is a network, run `{command}`, copy DIR here and give its path"

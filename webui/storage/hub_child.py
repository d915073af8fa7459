"""The child process of a download: asks the hub for the size, then fetches what is needed."""

from __future__ import annotations

import errno
import fnmatch
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from webui.core.errors import MissingWeights, NotEnoughDisk, StudioError
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.storage.files import check_free, write_error
from webui.storage.weights import repository_folder

PATTERNS = (
    "model_index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.*",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "scheduler/*.json",
    "tokenizer/*",
    "text_encoder/*.json",
    "text_encoder/*.safetensors",
    "transformer/*.json",
    "transformer/*.safetensors",
    "vae/*.json",
    "vae/*.safetensors",
    "unet/*.json",
    "unet/*.fp16.safetensors",
    "image_encoder/*.json",
    "image_encoder/*.fp16.safetensors",
    "feature_extractor/*.json",
)
"""What a pipeline, or one model of transformers, loads (of a UNet, the half-size files); pictures,
pickles and the README stay on the hub."""
_WORKERS = 4


def main(arguments: list[str]) -> int:
    """Downloads `REPO` into `CACHE` and reports on stdout, one JSON object a line.

    Files that are named after them are fetched instead of the usual ones.
    """
    repository, cache, named = arguments[0], Path(arguments[1]), arguments[2:]
    out = sys.stdout
    sys.stdout = sys.stderr  # what the library prints must not mix with the events
    try:
        folder = _download(repository, cache, named, out)
    except StudioError as error:
        _say(out, {"event": "failed", "error": error.to_json()})
        return 1
    _say(out, {"event": "done", "folder": folder})
    return 0


def chosen_files(there: Iterable[str], named: Sequence[str]) -> list[str]:
    """Of a repository's files those that are fetched.

    Args:
        there: their names.
        named: those that a card lists, `a|b` for the first of them that is there; empty for what a
            pipeline loads.
    """
    present = list(there)
    if not named:
        return [name for name in present if any(fnmatch.fnmatch(name, p) for p in PATTERNS)]
    found = (next((n for n in names.split("|") if n in present), None) for names in named)
    return [name for name in found if name is not None]


def _download(repository: str, cache: Path, named: Sequence[str], out: Any) -> str:
    import huggingface_hub
    from huggingface_hub import errors

    total_bytes = 0
    try:
        files = huggingface_hub.HfApi().model_info(repository, files_metadata=True).siblings or []
        wanted = chosen_files((file.rfilename for file in files), named)
        if not wanted:
            raise _refused(repository, "it has no diffusers checkpoint", "其中没有 diffusers 权重")
        total_bytes = sum(file.size or 0 for file in files if file.rfilename in wanted)
        _say(out, {"event": "size", "bytes": total_bytes})
        blobs = repository_folder(repository, cache) / "blobs"
        have = sum(path.stat().st_size for path in blobs.glob("*")) if blobs.is_dir() else 0
        check_free(cache, max(0, total_bytes - have))
        return str(
            huggingface_hub.snapshot_download(
                repository, cache_dir=cache, allow_patterns=wanted, max_workers=_WORKERS
            )
        )
    except (StudioError, KeyboardInterrupt):
        raise
    except errors.GatedRepoError:
        raise _refused(
            repository, "its licence must be accepted on the hub first", "需要先在 Hub 上接受许可"
        ) from None
    except errors.RepositoryNotFoundError:
        raise _refused(repository, "the hub does not have it", "Hub 上没有它") from None
    except Exception as error:
        raise _explained(error, repository, cache, total_bytes) from error


def _explained(error: Exception, repository: str, cache: Path, total_bytes: int) -> StudioError:
    """Tells a disk that takes nothing from a network that is not there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, ConnectionError):
            told = write_error(cache, cause)
            if isinstance(told, NotEnoughDisk) or cause.errno in (errno.EACCES, errno.EROFS):
                return told
        cause = cause.__cause__ or cause.__context__
    size = f" ({format_bytes(total_bytes)})" if total_bytes else ""
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]
    return MissingWeights(
        Text(
            f"The hub cannot be reached, so {repository} was not downloaded ({reason}).",
            f"无法连接 Hub，{repository} 未能下载（{reason}）。",
        ),
        Text(
            f"Check the network (a mirror can be named by HF_ENDPOINT) and start again, or copy "
            f"the repository{size} to this machine and name its folder under models in "
            f"studio.yaml. Downloads go to {cache}.",
            f"请检查网络（可用 HF_ENDPOINT 指定镜像）后重试，或把该仓库{size}复制到本机，"
            f"并在 studio.yaml 的 models 下指定文件夹。下载位置：{cache}。",
        ),
        "model",
    )


def _refused(repository: str, en: str, zh: str) -> MissingWeights:
    return MissingWeights(
        Text(f"{repository} cannot be downloaded: {en}.", f"无法下载 {repository}：{zh}。"),
        Text(
            "Name a folder that has the weights under models in studio.yaml.",
            "请在 studio.yaml 的 models 下指定已有权重的文件夹。",
        ),
        "model",
    )


def _say(out: Any, event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False), file=out, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

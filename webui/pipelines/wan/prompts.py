"""Embeddings of prompts kept in files: the setting `text_encoder: cached`.

A prompt that was encoded once needs no text encoder again, which is the largest part to load: 11 GB
for a few hundred kilobytes of embeddings. A prompt that is new is encoded on the processor.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from webui.core.clip import ClipCard
from webui.pipelines.running import CheckCancel, checked

MOST_FILES = 256
_NAME = "embedding"


class PromptCache:
    """The embeddings of one text encoder at one precision.

    Args:
        folder: where the files are; made when the first is written.
        card: the model.
        settings: its precision matters.
        weights: `kind` and `folder`: other weights give other embeddings.
        load: reads the text encoder, for prompts that are not there yet.
    """

    def __init__(
        self,
        folder: Path,
        card: ClipCard,
        settings: Mapping[str, Any],
        weights: Mapping[str, Any],
        load: Callable[[], nn.Module],
    ) -> None:
        self._folder = folder
        self._load = load
        self._length = card.max_sequence_length
        self._identity = [
            card.configs["text_encoder"],
            card.max_sequence_length,
            str(settings["precision"]),
            weights.get("kind", ""),
            weights.get("folder", ""),
        ]

    def embed(
        self, pipe: Any, prompts: list[str], check_cancel: CheckCancel | None = None
    ) -> list[torch.Tensor]:
        """The embedding (1 L D) of each prompt, on the run's device."""
        kept = {prompt: self._read(prompt) for prompt in dict.fromkeys(prompts)}
        missing = [prompt for prompt, found in kept.items() if found is None]
        if missing:
            pipe.text_encoder = self._load()
            try:
                with checked(pipe.text_encoder.encoder.block, check_cancel):
                    for prompt in missing:
                        made, _ = pipe.encode_prompt(
                            prompt=prompt,
                            do_classifier_free_guidance=False,
                            max_sequence_length=self._length,
                            device=torch.device("cpu"),
                        )
                        kept[prompt] = made
                        self._write(prompt, made)
            finally:
                pipe.text_encoder = None
        device = pipe.run_device
        return [found.to(device) for prompt in prompts if (found := kept[prompt]) is not None]

    def _path(self, prompt: str) -> Path:
        text = json.dumps([*self._identity, prompt], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def _read(self, prompt: str) -> torch.Tensor | None:
        """A prompt's embedding with its padding, or None; a damaged file counts as none."""
        path = self._path(prompt)
        try:
            words = load_file(path)[_NAME]
        except (OSError, KeyError, SafetensorError):
            return None
        with suppress(OSError):
            os.utime(path)  # the oldest files go first
        whole = words.new_zeros(1, self._length, words.shape[-1])
        whole[:, : words.shape[1]] = words
        return whole

    def _write(self, prompt: str, embedding: torch.Tensor) -> None:
        """Keeps the rows before the padding, which is zero; a full disk loses only the file."""
        rows = embedding[0].abs().amax(dim=-1).nonzero()
        length = int(rows.max()) + 1 if len(rows) else 1
        path = self._path(prompt)
        part = path.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({_NAME: embedding[:, :length].contiguous()}, part)
            part.replace(path)
            files = sorted(
                self._folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime
            )
            for file in files[:-MOST_FILES]:
                file.unlink(missing_ok=True)

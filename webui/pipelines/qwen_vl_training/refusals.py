"""What can be planned and not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.errors import BadInput
from webui.core.text import Text


def refuse_several_gpus(settings: Mapping[str, Any]) -> None:
    """One process trains on one GPU.

    Raises:
        BadInput: the settings ask for several, or for sharing among them.
    """
    for name, alone in (("gpus", 1), ("zero_stage", 0)):
        if int(settings.get(name, alone)) != alone:
            raise BadInput(
                f"settings.{name}",
                Text(
                    "Training on several GPUs can be planned and estimated, not run.",
                    "多卡训练可以规划和估算，但不能运行。",
                ),
                Text(
                    "To run it here, use gpus: 1 and zero_stage: 0.",
                    "要在本机运行，请用 gpus: 1 和 zero_stage: 0。",
                ),
            )

"""What a plan of upscaling says beside its savings: the disk, idle cards, batches that grow."""

from __future__ import annotations

from webui.core.plan import Estimate
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.upscaling import gpus_of, segments_of

_TRIES_MORE = Text(
    "While it runs, more tiles at a time are tried as far as measured memory allows: it may take "
    "more than this.",
    "运行中会按实测空闲内存尝试同时处理更多块：占用可能高于此估算。",
)


def upscaling_reasons(model: UpscaleCard, request: UpscaleRequest, found: Estimate) -> list[Text]:
    """The sentences that are about upscaling alone."""
    sentences = []
    if found.disk_bytes:
        size = format_bytes(found.disk_bytes)
        sentences.append(
            Text(
                f"Frames whose tiles are yet to be joined wait on the disk: {size} while it runs.",
                f"尚未拼合的分块画面暂存于磁盘：运行期间占用 {size}。",
            )
        )
    sentences += _idle_cards(request, found)
    one_at_a_time = model.temporal and not found.settings["tile"]
    if request.settings.get("tile_batch") == 0 and not one_at_a_time:
        sentences.append(_TRIES_MORE)
    return sentences


def _idle_cards(request: UpscaleRequest, found: Estimate) -> list[Text]:
    """That a video is too short for all cards that are asked for."""
    cards, pieces = gpus_of(found.settings), segments_of(request, found.settings)
    if "gpus" not in request.settings or pieces >= cards:
        return []
    parts = f"{pieces} part{'s' if pieces > 1 else ''}"
    return [
        Text(
            f"{cards} cards were asked for, and the video is cut into {parts}: {cards - pieces} "
            "will have nothing to do.",
            f"要求 {cards} 张卡，而视频只分为 {pieces} 段：其中 {cards - pieces} 张将闲置。",
        )
    ]

"""RapidOCR on all cores: the lines of a page are found together and read side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import rapidocr
from rapidocr.ch_ppocr_det.utils import DetPreProcess
from rapidocr.ch_ppocr_rec.typings import TextRecInput, TextRecOutput

FIND, READ = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"
"""Of the stages: where the lines are, and what they say. RapidOCR's package brings both."""
LEAST_PAGE, LEAST_LINE = (1, 3, 32, 32), (1, 3, 48, 320)
"""B C H W of small pictures that the finder and the reader take."""

HALF_WHITE = 127.5
"""The finder takes colours from -1 to 1: value / this - 1."""


class PageInput(DetPreProcess):  # type: ignore[misc]
    """A page as the finder takes it, made in one pass.

    RapidOCR's own makes four copies, some of float64: a quarter of a GB for 2.8 million pixels.
    """

    def __call__(self, img: np.ndarray) -> np.ndarray | None:
        sized = self.resize(img)
        if sized is None:
            return None
        height, width, channels = sized.shape
        page = np.empty((1, channels, height, width), np.float32)
        np.divide(sized.transpose(2, 0, 1), HALF_WHITE, out=page[0], dtype=np.float32)
        page -= 1
        return page


class LineReader(rapidocr.RapidOCR):  # type: ignore[misc]
    """RapidOCR, with each line read by itself on one thread.

    RapidOCR reads lines in batches as wide as their widest, one batch after the other. On two cores
    lines side by side take three quarters of that time.

    Args:
        threads: cores to use; those of this process where it is left out.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(
            params={
                "Global.log_level": "critical",
                # Lines that stand on their head are rare; one that is told so wrongly is lost.
                "Global.use_cls": False,
                # Pages come at the size that the request asks for.
                "Global.max_side_len": 100_000,
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            }
        )
        threads = threads or usable_threads()
        folder = Path(str(rapidocr.__file__)).parent / "models"
        self._finder = _session(folder / FIND, threads)
        self._reader = _session(folder / READ, 1)
        # RapidOCR's configuration has no place for all options of a session.
        detector = self._load_det_model()
        detector.session.session = self._finder
        detector.get_preprocess = lambda: PageInput(detector.limit_side_len, detector.limit_type)
        self._load_rec_model().session.session = self._reader
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="line")

    def recognize_txt(self, img: list[np.ndarray]) -> TextRecOutput:
        """What the lines say.

        Args:
            img: their pictures (H W C, blue first), upright.
        """
        # The longest first, so that all threads end at about the same time.
        order = sorted(range(len(img)), key=lambda index: -img[index].shape[1] / len(img[index]))
        read = dict(
            zip(order, self._threads.map(self._read, [img[index] for index in order]), strict=True)
        )
        lines = [read[index] for index in range(len(img))]
        return TextRecOutput(
            imgs=img,
            txts=tuple(line.txts[0] for line in lines),
            scores=tuple(line.scores[0] for line in lines),
            word_results=tuple(line.word_results[0] for line in lines),
            elapse=sum(line.elapse for line in lines),
        )

    def rest(self) -> None:
        """Gives the memory that was kept for the next page back to the system."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        for session, shape in ((self._finder, LEAST_PAGE), (self._reader, LEAST_LINE)):
            name = session.get_inputs()[0].name
            session.run(None, {name: np.zeros(shape, np.float32)}, options)

    def _read(self, line: np.ndarray) -> TextRecOutput:
        return self.text_rec(TextRecInput(img=[line], return_word_box=False))


def usable_threads() -> int:
    """Cores that this process may use."""
    named = os.environ.get("STUDIO_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Waiting threads otherwise keep the cores busy that others need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Layers of a page are hundreds of MiB: asked of the system for each page anew they cost the
    # finder as much time as the arithmetic. Lines have many widths: without an arena the C
    # library's heap frays, by 230 MiB in 500 pages.
    options.enable_cpu_mem_arena = True
    # Would plan, and keep, the memory of each size of page apart.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )

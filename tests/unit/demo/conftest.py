"""Shared parts: the checkpoint is loaded once."""

import pytest
from diffusers import WanPipeline

from webui.demo.generate import load_pipeline


@pytest.fixture(scope="session")
def pipeline() -> WanPipeline:
    return load_pipeline()

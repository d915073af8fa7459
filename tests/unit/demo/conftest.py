"""Shared parts: the checkpoint is loaded once."""

import pytest
import torch
from diffusers import WanPipeline

from webui.demo.generate import load_pipeline


@pytest.fixture(scope="session")
def pipeline() -> WanPipeline:
    torch.set_num_threads(2)
    return load_pipeline()

"""What stays on disk: the ledger of runs, outputs, presets, the configuration, and weights."""

from webui.storage.config import Limits, MemoryPolicy, StudioConfig, load_config
from webui.storage.hub import Download, DownloadProgress
from webui.storage.ledger import JobRecord, Ledger, Recovery, SpeedSample
from webui.storage.metadata import read_metadata
from webui.storage.outputs import Outputs
from webui.storage.pictures import read_picture, store_picture
from webui.storage.presence import Presence
from webui.storage.presets import Preset, Presets
from webui.storage.weights import WeightsSource, find_weights, missing_weights

__all__ = [
    "Download",
    "DownloadProgress",
    "JobRecord",
    "Ledger",
    "Limits",
    "MemoryPolicy",
    "Outputs",
    "Presence",
    "Preset",
    "Presets",
    "Recovery",
    "SpeedSample",
    "StudioConfig",
    "WeightsSource",
    "find_weights",
    "load_config",
    "missing_weights",
    "read_metadata",
    "read_picture",
    "store_picture",
]

"""The hardware: the list of cards, the card of this machine, and live readings."""

from webui.hardware.cards import load_cards
from webui.hardware.detect import detected_card, find_card
from webui.hardware.readings import (
    DeviceReader,
    DeviceReading,
    DiskReading,
    HostReading,
    read_devices,
    read_disk,
    read_host,
)

__all__ = [
    "DeviceReader",
    "DeviceReading",
    "DiskReading",
    "HostReading",
    "detected_card",
    "find_card",
    "load_cards",
    "read_devices",
    "read_disk",
    "read_host",
]

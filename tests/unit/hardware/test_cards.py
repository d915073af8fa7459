"""The list of cards: complete, and every number in a sane relation to the others."""

from __future__ import annotations

import pytest

from webui.core.errors import BadInput
from webui.core.units import GIB, MIB
from webui.hardware import find_card, load_cards
from webui.hardware.cards import load_known_cards, typical_vram_bytes

CARDS = list(load_known_cards().values())
# fmt: off
NAMED_IN_GUIDES = {
    "gtx-1060-6gb", "gtx-1080-ti", "gtx-1660-ti", "rtx-2060", "rtx-2070-super", "rtx-2080-ti",
    "rtx-3050-8gb", "rtx-3060-12gb", "rtx-3060-ti", "rtx-3070", "rtx-3070-ti", "rtx-3080-10gb",
    "rtx-3080-12gb", "rtx-3090", "rtx-3090-ti", "rtx-4060", "rtx-4060-ti-8gb",
    "rtx-4060-ti-16gb", "rtx-4070", "rtx-4070-super", "rtx-4070-ti", "rtx-4070-ti-super",
    "rtx-4080", "rtx-4080-super", "rtx-4090", "rtx-5060", "rtx-5060-ti-8gb", "rtx-5060-ti-16gb",
    "rtx-5070", "rtx-5070-ti", "rtx-5080", "rtx-5090", "rtx-3060-laptop", "rtx-4060-laptop",
    "rtx-4070-laptop", "rtx-4080-laptop", "rtx-4090-laptop", "rtx-a2000-12gb", "rtx-a4000",
    "rtx-a5000", "rtx-a6000", "rtx-2000-ada", "rtx-4000-ada", "rtx-4500-ada", "rtx-5000-ada",
    "rtx-6000-ada", "rtx-pro-6000-blackwell", "t4", "v100-16gb", "v100-32gb", "p100", "l4",
    "l40s", "a10", "a10g", "a30", "a40", "a100-40gb", "a100-80gb", "h100-pcie", "h100", "h200",
    "b200",
}
# fmt: on


def test_the_cards_that_people_have_are_there():
    assert set(load_cards()) >= NAMED_IN_GUIDES


@pytest.mark.parametrize("known", CARDS, ids=lambda known: known.card.name)
def test_numbers_are_sane(known):
    card = known.card
    assert card.kind == "cuda"
    assert 0.89 <= card.vram_bytes / known.memory_bytes < 1
    assert 100e9 < card.bandwidth_bytes_s < 10e12
    assert 1 <= card.bf16_flops / card.fp32_flops <= 31
    # Arithmetic per byte of memory traffic, in the range of every card ever sold.
    assert 20 < card.bf16_flops / card.bandwidth_bytes_s < 500
    assert 5e9 < card.pcie_bytes_s < card.bandwidth_bytes_s / 5
    assert 300 * MIB <= card.context_bytes <= GIB
    assert card.compute_capability is not None
    assert card.bf16 == (card.compute_capability >= (8, 0))
    assert card.fp8 == (card.compute_capability >= (8, 9))


@pytest.mark.parametrize("known", CARDS, ids=lambda known: known.card.name)
def test_tensor_rate_has_the_ratio_of_its_kind(known):
    """GeForce from Ampere on: twice plain fp32; workstation cards with the same chips: four times.

    The A10G is the one exception: a data-centre card at the GeForce ratio.
    """
    card = known.card
    if card.compute_capability not in ((8, 6), (8, 9), (12, 0)):
        return
    consumer = "GeForce" in card.title or card.name == "a10g"
    assert card.bf16_flops / card.fp32_flops == pytest.approx(2 if consumer else 4, rel=0.02)


def test_only_hopper_has_a_measured_context():
    measured = {known.card.name for known in CARDS if known.card.context_measured}
    assert measured == {"h100-pcie", "h100", "h200"}


def test_names_titles_and_driver_names_are_unique():
    assert len({known.card.title for known in CARDS}) == len(CARDS)
    pairs = [(name, known.memory_bytes) for known in CARDS for name in known.nvml_names]
    assert len(set(pairs)) == len(pairs)


def test_the_typical_reserve_is_on_the_safe_side_of_every_reading():
    ecc = {"t4", "l4", "l40s", "a10", "a10g", "a40"}
    for known in CARDS:
        if known.vram_measured:
            typical = typical_vram_bytes(known.memory_bytes, known.card.name in ecc)
            assert -0.6 < (typical - known.card.vram_bytes) / GIB < 0.1, known.card.name
        elif known.card.name in ecc:
            assert known.card.vram_bytes < known.memory_bytes * 0.93


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("rtx-3060", "rtx-3060-12gb"),
        ("rtx-4060-8gb", "mean rtx-4060"),
        ("RTX 4090", "rtx-4090"),
        ("H2OO", ""),
    ],
)
def test_an_unknown_card_offers_the_nearest(wrong, right):
    with pytest.raises(BadInput) as caught:
        find_card(wrong)
    assert caught.value.field == "card"
    assert right in caught.value.hint.en and "detected" in caught.value.hint.en

"""The words, and the combinations that training never sees."""

import random
from itertools import combinations as pairs_of

import pytest

from webui.demo import prompts, vocabulary
from webui.demo.vocabulary import MOTIONS, SHAPES, Spec, names, parse


def test_held_out_are_a_fifth_and_disjoint() -> None:
    held_out, training = (
        vocabulary.held_out_combinations(),
        vocabulary.training_combinations(),
    )
    assert not set(held_out) & set(training)
    assert set(held_out) | set(training) == set(vocabulary.combinations())
    assert 0.15 < len(held_out) / len(vocabulary.combinations()) < 0.25


def test_every_pair_of_words_stays_in_training() -> None:
    traits = ("colour", "shape", "motion")

    def pairs(specs: list[Spec]) -> set[tuple[str, ...]]:
        return {
            (a, getattr(spec, a), b, getattr(spec, b))
            for spec in specs
            for a, b in pairs_of(traits, 2)
        }

    assert pairs(vocabulary.training_combinations()) == pairs(vocabulary.combinations())


@pytest.mark.parametrize(
    ("prompt", "spec"),
    [
        ("a red circle moves to the right", Spec("red", "circle", "right")),
        ("red circle moving right", Spec("red", "circle", "right")),
        (
            "Red circle, moving right on a dark background",
            Spec("red", "circle", "right", "black"),
        ),
        ("一个红色的圆向右移动", Spec("red", "circle", "right")),
        ("粉红色的心形从左往右走，灰色渐变背景", Spec("pink", "heart", "right", "gradient")),
        ("a blue star travels from right to left", Spec("blue", "star", "left")),
        ("an elephant", Spec()),
    ],
)
def test_parse(prompt: str, spec: Spec) -> None:
    assert parse(prompt) == spec


def test_parse_reads_back_every_written_prompt() -> None:
    for text, spec in prompts.evaluation_prompts(each=10, seed=5):
        assert parse(text) == spec, text


def test_examples_are_held_in_the_vocabulary() -> None:
    for text in vocabulary.EXAMPLES:
        spec = parse(text)
        assert spec.colour and spec.shape and spec.motion, text


def test_words_are_unambiguous() -> None:
    for words in vocabulary.describe().values():
        spoken = [p for word in words.values() for p in (*word["english"], *word["chinese"])]
        assert len(spoken) == len(set(spoken))


def test_training_prompts_never_add_words() -> None:
    source = random.Random(3)
    for spec in vocabulary.training_combinations()[::7]:
        full = Spec(spec.colour, spec.shape, spec.motion, "night")
        said = parse(prompts.training_prompt(full, source))
        for trait in ("colour", "shape", "motion", "background"):
            assert getattr(said, trait) in (None, getattr(full, trait))
        assert vocabulary.complete(said).motion == spec.motion


def test_names_are_unique() -> None:
    assert len(set(names(SHAPES) + names(MOTIONS))) == len(SHAPES) + len(MOTIONS)

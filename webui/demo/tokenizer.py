"""Trains the demo's tokenizer: a small T5-style unigram model over its bilingual prompts."""

from __future__ import annotations

import string
from random import Random

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import PreTrainedTokenizerFast

from webui.demo import prompts, vocabulary
from webui.demo.vocabulary import BACKGROUNDS, DEFAULTS, Spec

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
"""T5's special tokens, with T5's numbers 0, 1 and 2."""


def build_tokenizer(vocabulary_size: int = 768, seed: int = 0) -> PreTrainedTokenizerFast:
    """Train the tokenizer.

    The pieces differ a little from one training to the next (the library's hash maps have no fixed
    order), so that a checkpoint's own tokenizer must stay with its weights.

    Case and full-width forms are folded, since they mean nothing here. Chinese characters stay
    single: unigram would otherwise learn whole prompts as one piece, and the text encoder would
    never see that "a red star" and "a red heart" share a word. Words outside the corpus fall
    back to letters, other scripts to `<unk>`.
    """
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\u4e00-\u9fff]"), "isolated"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Metaspace(prepend_scheme="first"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = UnigramTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END, UNKNOWN],
        unk_token=UNKNOWN,
        initial_alphabet=list(string.ascii_lowercase + string.digits + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers uses it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="right",
        model_max_length=512,
    )


def _corpus(seed: int) -> list[str]:
    """Prompts for every word and background (tokens carry no combinations), and other texts."""
    random = Random(seed)
    texts = [text for text in prompts.UNCONDITIONAL if text] * 20
    for _ in range(20):
        for spec in vocabulary.training_combinations():
            background = random.choice(BACKGROUNDS).name
            full = Spec(spec.colour, spec.shape, spec.motion, background)
            texts.append(prompts.training_prompt(full, random))
    return texts


def encode(
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    length: int = DEFAULTS.max_sequence_length,
) -> list[list[int]]:
    """Token numbers of each text, padded or cut to `length` as `WanPipeline` does it."""
    out = tokenizer(texts, padding="max_length", max_length=length, truncation=True)
    return out["input_ids"]

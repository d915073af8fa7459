"""Training data that lives on the device: encoded clips and tokenised prompts.

Drawing and encoding a clip costs far more than one training step on it, so that clips are kept
and a few are replaced at every step. Prompts are drawn anew for each use from a large bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from webui.demo import codec, drawing, prompts, vocabulary
from webui.demo.tokenizer import encode
from webui.demo.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Spec, names


@dataclass(frozen=True, slots=True)
class Bucket:
    """Clips of one size.

    Args:
        frames: frames of a clip, 4k + 1.
        height: pixels, a multiple of 16.
        width: pixels, a multiple of 16.
        share: of the training steps.
    """

    frames: int
    height: int
    width: int
    share: float

    @property
    def tokens(self) -> int:
        """Transformer tokens of one clip."""
        return (self.frames + 3) // 4 * (self.height // 16) * (self.width // 16)


BUCKETS: tuple[Bucket, ...] = (
    Bucket(17, 128, 128, 0.34),
    Bucket(17, 96, 96, 0.20),
    Bucket(17, 96, 160, 0.07),
    Bucket(17, 160, 96, 0.07),
    Bucket(9, 128, 128, 0.05),
    Bucket(9, 96, 96, 0.04),
    Bucket(25, 128, 128, 0.05),
    Bucket(25, 96, 96, 0.03),
    Bucket(33, 96, 96, 0.05),
    Bucket(33, 128, 128, 0.03),
    Bucket(1, 128, 128, 0.04),
    Bucket(1, 96, 96, 0.03),
)


RENEWED_PIXELS = 16_000_000
"""Pixels encoded at once: enough to fill a large GPU, about 60 clips of the usual size."""


def all_codes() -> Tensor:
    """Every training (colour, shape, motion, background) as word numbers, N 4."""
    lists = (names(COLOURS), names(SHAPES), names(MOTIONS))
    rows = []
    for spec in vocabulary.training_combinations():
        triple = [
            words.index(word or "")
            for words, word in zip(lists, (spec.colour, spec.shape, spec.motion), strict=True)
        ]
        rows += [[*triple, background] for background in range(len(BACKGROUNDS))]
    return torch.tensor(rows)


class PromptBank:
    """Tokenised prompts for every training combination, and those of the unguided branch.

    Args:
        tokenizer: the demo's tokenizer.
        phrasings: prompts for each combination with its background.
        device: where the tokens live.
        length: tokens of a prompt, padding included.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        phrasings: int,
        device: torch.device,
        length: int = vocabulary.DEFAULTS.max_sequence_length,
        seed: int = 0,
    ) -> None:
        random = Random(seed)
        texts = []
        for colour, shape, motion, background in all_codes().tolist():
            spec = Spec(
                COLOURS[colour].name,
                SHAPES[shape].name,
                MOTIONS[motion].name,
                BACKGROUNDS[background].name,
            )
            texts += [prompts.training_prompt(spec, random) for _ in range(phrasings)]
        tokens = torch.tensor(encode(tokenizer, texts, length), dtype=torch.int16)
        self.tokens = tokens.view(-1, phrasings, length).to(device)
        empty = torch.tensor(encode(tokenizer, list(prompts.UNCONDITIONAL), length))
        self.empty = empty.to(device)
        self.texts = texts

    def sample(self, rows: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """A prompt for each combination number; `dropout` of them unguided. B L."""
        count, device = len(rows), rows.device

        def number(limit: int) -> Tensor:
            return torch.randint(limit, (count,), generator=generator, device=device)

        chosen = self.tokens[rows, number(self.tokens.shape[1])].long()
        drop = torch.rand(count, generator=generator, device=device) < dropout
        return torch.where(drop[:, None], self.empty[number(len(self.empty))], chosen)


class LatentPool:
    """Encoded clips of one bucket, renewed little by little.

    Args:
        vae: the trained autoencoder.
        bucket: the clips' size.
        capacity: how many are kept.
        generator: of the drawing; its device is the pool's.
        bf16: encode in bf16.
    """

    def __init__(
        self,
        vae: AutoencoderKLWan,
        bucket: Bucket,
        capacity: int,
        generator: torch.Generator,
        bf16: bool = False,
    ) -> None:
        self._vae, self._bucket, self._generator = vae, bucket, generator
        self._bf16 = bf16
        device = generator.device
        self._codes = all_codes().to(device)
        shape = ((bucket.frames + 3) // 4, bucket.height // 8, bucket.width // 8)
        channels = vae.config.z_dim
        self.latents = torch.zeros(capacity, channels, *shape, device=device, dtype=torch.bfloat16)
        self.rows = torch.zeros(capacity, dtype=torch.long, device=device)
        self._next = 0
        piece = max(
            1, min(capacity, RENEWED_PIXELS // (bucket.frames * bucket.height * bucket.width))
        )
        self.piece = piece
        for _ in range(-(-capacity // piece)):
            self.renew()

    @torch.no_grad()
    def renew(self) -> None:
        """Replace the oldest clips of the pool by new ones."""
        device = self._generator.device
        rows = torch.randint(
            len(self._codes), (self.piece,), generator=self._generator, device=device
        )
        scene = drawing.scene_of_codes(self._codes[rows], self._generator)
        bucket = self._bucket
        clip = drawing.draw(scene, bucket.frames, bucket.height, bucket.width)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            mean, _ = codec.encode(self._vae, clip)
        places = (self._next + torch.arange(self.piece, device=device)) % len(self.rows)
        self.latents[places] = codec.normalise(self._vae, mean).to(self.latents.dtype)
        self.rows[places] = rows
        self._next = (self._next + self.piece) % len(self.rows)

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Random clips: latents B z T H W in fp32 and their combination numbers B."""
        places = torch.randint(
            len(self.rows), (count,), generator=self._generator, device=self.rows.device
        )
        return self.latents[places].float(), self.rows[places]

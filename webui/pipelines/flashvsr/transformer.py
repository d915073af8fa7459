"""The streaming transformer: what FlashVSR adds to the library's Wan transformer.

Its `forward` stays the library's. Tokens are put in the order of windows when they are made and
back when they leave, so that attention needs no reordering; every other layer treats tokens one
by one. Layers are called in the same order in every pass, as streamed weights need.

Shapes: B batch (tiles), N tokens, D width, H heads, E channels of a head, L text tokens, f latent
frames, h and w rows and columns of latents.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn

from webui.pipelines.flashvsr.attention import KeyCache, Rule, select_windows
from webui.pipelines.flashvsr.kernels import attend, attend_to_all
from webui.pipelines.flashvsr.windows import Grid, from_windows, to_windows
from webui.pipelines.pieces import compute, hold, make_holdable

TIMESTEP = 1000.0
"""The one step's."""
_THETA = 10000.0


class TextKeys:
    """Each block's keys and values of the prompt, which is always the same: made once."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, index: int, attention: Any, text: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of a block, both 1 L H E. Its layers are visited even where nothing is computed."""
        known = index in self._kept
        key = hold(attention.to_k, lambda: None if known else compute(attention.to_k)(text))
        key = hold(attention.norm_k, lambda: None if known else compute(attention.norm_k)(key))
        value = hold(attention.to_v, lambda: None if known else compute(attention.to_v)(text))
        if not known:
            heads = (attention.heads, -1)
            self._kept[index] = (key.unflatten(2, heads), value.unflatten(2, heads))
        return self._kept[index]


class TransformerState:
    """What one video's next chunk needs of those before.

    Args:
        blocks: of the transformer.
        rule: how attention chooses.
        text: keys and values of the prompt, shared by all videos.
    """

    def __init__(self, blocks: int, rule: Rule, text: TextKeys) -> None:
        self.rule = rule
        self.text = text
        self.caches = [KeyCache() for _ in range(blocks)]
        self.done = 0
        """Latent frames so far: the next one's place in time."""
        self.grid: Grid = (0, 0, 0)
        self.tokens: torch.Tensor | None = None
        """Of the low-quality frames, for the chunk that is computed."""
        self.kept: list[torch.Tensor] | None = None
        """Where a list stands here, each block's choice of windows is appended."""


class _Add:
    """What the additions to one transformer share: the video whose chunk is computed."""

    state: TransformerState | None = None

    @property
    def now(self) -> TransformerState:
        assert self.state is not None
        return self.state


def make_streaming(transformer: Any) -> Any:
    """Gives a `WanTransformer3DModel` the additions; its weights stay as they are."""
    shared = _Add()
    transformer.rope = _Rope(shared, int(transformer.config.attention_head_dim))
    transformer.patch_embedding.register_forward_hook(_Enter(shared))
    transformer.proj_out.register_forward_hook(_Leave(shared))
    for index, block in enumerate(transformer.blocks):
        block.attn1.set_processor(_SelfAttention(shared, index))
        block.attn2.set_processor(_TextAttention(shared, index))
        for layer in (block.attn2.to_k, block.attn2.norm_k, block.attn2.to_v):
            make_holdable(layer)
    transformer.streaming = shared
    return transformer


def predict(
    transformer: Any,
    state: TransformerState,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    text: torch.Tensor,
) -> torch.Tensor:
    """The prediction for the next chunk of a video.

    Args:
        transformer: of `make_streaming`.
        state: of the video; written.
        latents: noise (B C f h w), in the transformer's number format.
        tokens: of the low-quality frames (B N D).
        text: embedding of the prompt (1 L text width).

    Returns:
        B C f h w.
    """
    frames, height, width = latents.shape[2:]
    _, tall, wide = transformer.config.patch_size
    state.grid = (frames, height // tall, width // wide)
    state.tokens = tokens
    transformer.streaming.state = state
    time = torch.full((1,), TIMESTEP, device=latents.device)
    try:
        predicted: torch.Tensor = transformer(latents, time, text, return_dict=False)[0]
    finally:
        transformer.streaming.state = state.tokens = None
    state.done += frames
    return predicted


class _Rope(nn.Module):
    """Rotary embedding whose places in time go on from chunk to chunk, without an end."""

    def __init__(self, shared: _Add, channels: int) -> None:
        super().__init__()
        self._shared = shared
        side = 2 * (channels // 6)
        self._channels = (channels - 2 * side, side, side)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Angles as complex numbers (1 N 1 E/2), in the order of windows."""
        state = self._shared.now
        frames, rows, columns = state.grid
        starts = (state.done, 0, 0)
        axes = []
        for axis, (start, count) in enumerate(zip(starts, state.grid, strict=True)):
            places = torch.arange(start, start + count, dtype=torch.float64, device=latents.device)
            steps = torch.arange(
                0, self._channels[axis], 2, dtype=torch.float64, device=latents.device
            )
            angles = torch.outer(places, _THETA ** (-steps / self._channels[axis]))
            turned = torch.complex(angles.cos().float(), angles.sin().float())
            shape = [1, 1, 1, turned.shape[1]]
            shape[axis] = count
            axes.append(turned.view(shape).expand(frames, rows, columns, -1))
        table = torch.cat(axes, -1).flatten(0, 2)[None]
        return to_windows(table, state.grid).unsqueeze(2)


class _Enter:
    """Adds the low-quality frames' tokens to the latents', in the order of windows."""

    def __init__(self, shared: _Add) -> None:
        self._shared = shared

    def __call__(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        state = self._shared.now
        assert state.tokens is not None
        tokens = output.flatten(2).transpose(1, 2) + state.tokens
        # B D N 1 1: the model flattens it to the tokens as they stand here.
        return to_windows(tokens, state.grid).transpose(1, 2)[..., None, None]


class _Leave:
    """Puts the result's tokens back into their places."""

    def __init__(self, shared: _Add) -> None:
        self._shared = shared

    def __call__(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return from_windows(output, self._shared.now.grid)


class _SelfAttention:
    """Sparse attention over the present chunk and the remembered ones."""

    def __init__(self, shared: _Add, index: int) -> None:
        self._shared = shared
        self._index = index

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        state = self._shared.now
        heads = (attention.heads, -1)
        query = _turn(
            attention.norm_q(attention.to_q(hidden_states)).unflatten(2, heads), rotary_emb
        )
        key = _turn(attention.norm_k(attention.to_k(hidden_states)).unflatten(2, heads), rotary_emb)
        value = attention.to_v(hidden_states).unflatten(2, heads)
        del hidden_states
        cache = state.caches[self._index]
        key, value = cache.joined(key, value)
        if state.rule.dense:
            found = attend_to_all(query, key, value)
        else:
            kept = select_windows(query, key, state.rule)
            if state.kept is not None:
                state.kept.append(kept)
            found = attend(query, key, value, kept)
        cache.remember(key, value, state.rule)
        del query, key, value
        project, drop = attention.to_out
        return drop(project(found.flatten(2)))  # type: ignore[no-any-return]


class _TextAttention:
    """Attention to the prompt."""

    def __init__(self, shared: _Add, index: int) -> None:
        self._shared = shared
        self._index = index

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert encoder_hidden_states is not None
        query = attention.norm_q(attention.to_q(hidden_states)).unflatten(2, (attention.heads, -1))
        batch = len(query)
        key, value = (
            kept.expand(batch, -1, -1, -1)
            for kept in self._shared.now.text.of(self._index, attention, encoder_hidden_states)
        )
        found = dispatch_attention_fn(query, key, value)
        project, drop = attention.to_out
        return drop(project(found.flatten(2)))  # type: ignore[no-any-return]


def _turn(heads: torch.Tensor, angles: torch.Tensor | None) -> torch.Tensor:
    """Rotary embedding of B N H E; computed in float32."""
    assert angles is not None
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * angles).flatten(-2).type_as(heads)

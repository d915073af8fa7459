"""Blocks that do their token-wise work in pieces: the setting `ffn_chunks`.

Feed-forward, norms, rotary embedding, gates, and attention to the text treat every token by
itself; only self-attention mixes them. Done for a piece of the tokens at a time, with results
written over their input, the same numbers need less than half of the memory. diffusers has
forward chunking for other blocks (models/attention.py, `_chunked_feed_forward`) and none for Wan,
and chunking the feed-forward alone would not help: the gate after it, in fp32 over all tokens, is
where the peak is (models/transformers/transformer_wan.py, WanTransformerBlock.forward).

Shapes: B clips, N tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from torch import nn

from webui.pipelines import pieces as shared
from webui.pipelines.pieces import Span, compute, hold, make_holdable

Place = tuple[slice, Span]
"""A clip, and a range of its tokens."""


def make_splittable(transformer: nn.Module) -> None:
    """Gives the blocks of a Wan transformer this file's way, which `set_pieces` switches on.

    Parameters, names and results stay; blocks of another make are left alone.
    """
    blocks = (*getattr(transformer, "blocks", ()), *getattr(transformer, "vace_blocks", ()))
    for block in blocks:
        if type(block) not in _PIECES_OF:
            continue
        block.__class__ = _PIECES_OF[type(block)]
        held = [block.norm2, block.ffn.net[0].proj, block.ffn.net[2], block.attn2.to_q]
        for attention in (block.attn1, block.attn2):
            held += [attention.norm_q, attention.norm_k, attention.to_out[0]]
        if block.attn2.add_k_proj is not None:
            held.append(block.attn2.norm_added_k)
        held += [part for name in ("proj_in", "proj_out") if (part := getattr(block, name, None))]
        for module in held:
            make_holdable(module)
    if blocks and type(transformer.norm_out) is FP32LayerNorm:
        transformer.norm_out.__class__ = _PieceNorm


def set_pieces(transformer: nn.Module, pieces: int) -> None:
    """In how many pieces the token-wise work is done; 1 is the library's own way."""
    for part in transformer.modules():
        if isinstance(part, _Pieces | _PieceNorm):
            part.pieces = pieces


def set_kept_inputs(transformer: Any, blocks: int) -> None:
    """How many of the first blocks leave their input as it is, for who reads it again."""
    for index, block in enumerate(transformer.blocks):
        if isinstance(block, PieceBlock):
            block.keeps_input = index < blocks


class _PieceNorm(FP32LayerNorm):  # type: ignore[misc]
    """The norm after the last block, over its input: a copy that nothing else reads."""

    pieces: int = 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.pieces == 1:
            result: torch.Tensor = super().forward(inputs)
            return result
        for clip, span in shared.places(inputs.shape[0], inputs.shape[1], self.pieces):
            inputs[clip, span] = super().forward(inputs[clip, span])
        return inputs


class _Pieces:
    """What the blocks have in common: the three steps of a block, written over their input."""

    pieces: int = 1

    def _each(self, hidden: torch.Tensor) -> list[Place]:
        return list(shared.places(hidden.shape[0], hidden.shape[1], self.pieces))

    def _transform(
        self: Any,
        hidden: torch.Tensor,
        text: torch.Tensor,
        temb: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """The block on hidden (B N D), in place; text (B L D), temb (B 6 D or B N 6 D)."""
        each = self._each(hidden)
        rows = _Rows(self.scale_shift_table, temb)
        self._attend_to_all(hidden, rows, rotary, each)
        self._attend_to_text(hidden, text, each)
        self._feed_forward(hidden, rows, each)

    def _attend_to_all(
        self: Any,
        hidden: torch.Tensor,
        rows: _Rows,
        rotary: tuple[torch.Tensor, torch.Tensor],
        each: list[Place],
    ) -> None:
        attention = self.attn1
        normed = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
        for clip, span in each:
            shift, scale, _ = rows.of(clip, span, first=True)
            normed[clip, span] = self.norm1(hidden[clip, span].float()) * (1 + scale) + shift
        query, key, value = (
            layer(normed).unflatten(2, (attention.heads, -1))
            for layer in (attention.to_q, attention.to_k, attention.to_v)
        )
        del normed
        for norm, heads in ((attention.norm_q, query), (attention.norm_k, key)):
            hold(norm, partial(_turn, compute(norm), heads, rotary, each))
        found = _attention(attention, query, key, value)
        del query, key, value, heads
        project, drop = attention.to_out

        def add() -> None:
            for clip, span in each:
                _, _, gate = rows.of(clip, span, first=True)
                output = drop(compute(project)(found[clip, span].flatten(2, 3)))
                hidden[clip, span] = hidden[clip, span].float() + output * gate

        hold(project, add)

    def _attend_to_text(
        self: Any, hidden: torch.Tensor, text: torch.Tensor, each: list[Place]
    ) -> None:
        attention = self.attn2
        project, drop = attention.to_out
        split = (attention.heads, -1)
        norm, to_query, norm_query = map(compute, (self.norm2, attention.to_q, attention.norm_q))
        picture = None
        if attention.add_k_proj is not None:
            # The features of the picture stand before the text.
            features, text = text[:, :-TEXT_TOKENS], text[:, -TEXT_TOKENS:]
            key = attention.add_k_proj(features)
            key = hold(attention.norm_added_k, lambda: compute(attention.norm_added_k)(key))
            value = attention.add_v_proj(features)
            picture = (key.unflatten(2, split), value.unflatten(2, split))

        def add(key: torch.Tensor, value: torch.Tensor) -> None:
            for clip, span in each:
                query = norm_query(to_query(norm(hidden[clip, span].float()).type_as(hidden)))
                query = query.unflatten(2, split)
                seen = (
                    None
                    if picture is None
                    else _attention(attention, query, *(part[clip] for part in picture))
                )
                found = _attention(attention, query, key[clip], value[clip]).flatten(2, 3)
                if seen is not None:
                    found = found + seen.flatten(2, 3)
                hidden[clip, span] = hidden[clip, span] + drop(compute(project)(found))

        def with_query() -> None:
            key, value = attention.to_k(text), attention.to_v(text).unflatten(2, split)

            def with_norm() -> None:
                normed = hold(attention.norm_k, lambda: compute(attention.norm_k)(key))
                hold(project, lambda: add(normed.unflatten(2, split), value))

            hold(attention.norm_q, with_norm)

        hold(self.norm2, lambda: hold(attention.to_q, with_query))

    def _feed_forward(self: Any, hidden: torch.Tensor, rows: _Rows, each: list[Place]) -> None:
        activation, drop, down = self.ffn.net
        grow, shrink = compute(activation.proj), compute(down)

        def add() -> None:
            for clip, span in each:
                shift, scale, gate = rows.of(clip, span, first=False)
                normed = self.norm3(hidden[clip, span].float())
                normed = (normed * (1 + scale) + shift).type_as(hidden)
                output = shrink(drop(activation.gelu(grow(normed))))
                hidden[clip, span] = hidden[clip, span].float() + output.float() * gate

        hold(activation.proj, lambda: hold(down, add))


class PieceBlock(_Pieces, WanTransformerBlock):  # type: ignore[misc]
    """WanTransformerBlock whose forward pass can go piece by piece, without gradients.

    It writes over `hidden_states`, which the transformer's loop does not read again, unless it is
    told to keep them.
    """

    keeps_input: bool = False

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """As the library's: hidden_states (B N D), text (B L D), temb (B 6 D or B N 6 D)."""
        if self.pieces == 1:
            result: torch.Tensor = super().forward(
                hidden_states, encoder_hidden_states, temb, rotary_emb
            )
            return result
        if self.keeps_input:
            hidden_states = hidden_states.clone()
        self._transform(hidden_states, encoder_hidden_states, temb, rotary_emb)
        return hidden_states


class PieceControlBlock(_Pieces, WanVACETransformerBlock):  # type: ignore[misc]
    """WanVACETransformerBlock in pieces; it writes over `control_hidden_states`."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """As the library's: hidden and control states (B N D), text (B L D), temb (B 6 D)."""
        if self.pieces == 1:
            result: tuple[torch.Tensor | None, torch.Tensor] = super().forward(
                hidden_states, encoder_hidden_states, control_hidden_states, temb, rotary_emb
            )
            return result
        control = control_hidden_states
        if self.proj_in is not None:
            enter = compute(self.proj_in)

            def begin() -> None:
                for clip, span in self._each(control):
                    control[clip, span] = enter(control[clip, span]) + hidden_states[clip, span]

            hold(self.proj_in, begin)
        self._transform(control, encoder_hidden_states, temb, rotary_emb)
        hint = None if self.proj_out is None else self.proj_out(control)
        return hint, control


_PIECES_OF: dict[type[nn.Module], type[nn.Module]] = {
    WanTransformerBlock: PieceBlock,
    WanVACETransformerBlock: PieceControlBlock,
}
TEXT_TOKENS = 512
"""Of the authors' text encoder; what stands before them is the picture's (transformer_wan.py,
WanAttnProcessor)."""


class _Rows:
    """The modulation of a block: for all tokens (temb B 6 D), or for each (temb B N 6 D).

    Computed for a piece at a time: for each token it is six times as wide as the hidden states.
    """

    def __init__(self, table: torch.Tensor, temb: torch.Tensor) -> None:
        self._table = table
        self._temb = temb
        self._all = (table + temb.float()).chunk(6, dim=1) if temb.ndim == 3 else ()

    def of(self, clip: slice, span: Span, first: bool) -> tuple[torch.Tensor, ...]:
        """Shift, scale, gate (1 1 D or 1 N D) of self-attention (first) or the feed-forward."""
        if self._all:
            return tuple(rows[clip] for rows in (self._all[:3] if first else self._all[3:]))
        half = slice(0, 3) if first else slice(3, 6)
        rows = self._table[:, half].unsqueeze(0) + self._temb[clip, span, half].float()
        return rows.unbind(dim=2)


def _turn(
    norm: Callable[[torch.Tensor], torch.Tensor],
    heads: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    each: list[Place],
) -> None:
    """Norm and rotary embedding in place, on (B N H D/H), as WanAttnProcessor does them."""
    for clip, span in each:
        flat = heads[clip, span].flatten(2)
        first, second = norm(flat).unflatten(2, heads.shape[2:]).unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = rotary[0][:, span, ..., 0::2], rotary[1][:, span, ..., 1::2]
        part = heads[clip, span]
        part[..., 0::2] = first * cos - second * sin
        part[..., 1::2] = first * sin + second * cos


def _attention(
    attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Through the library's dispatch, with the backend that the model was given (B N H D/H)."""
    found: torch.Tensor = dispatch_attention_fn(
        query,
        key,
        value,
        attn_mask=None,
        dropout_p=0.0,
        is_causal=False,
        backend=attention.processor._attention_backend,
        parallel_config=None,
    )
    return found

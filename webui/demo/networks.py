"""The demo's networks: the real Wan classes at small size, and how they are saved.

Every component is built from its class's own configuration, so that whatever the app does to the
real model (offload, quantise, chunk, trace) works on this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
)
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from webui.demo.vocabulary import DEFAULTS

ModelT = TypeVar("ModelT", bound=nn.Module)

LATENT_CHANNELS = 16
TEXT_WIDTH = 128


def build_vae(base_dim: int = 16, num_res_blocks: int = 1) -> AutoencoderKLWan:
    """Wan2.1's video autoencoder, 1/6 as wide: 4x in time, 8x in space, 16 latent channels."""
    vae = AutoencoderKLWan(
        base_dim=base_dim,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=num_res_blocks,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    start_as_identity(vae)
    return vae


@torch.no_grad()
def start_as_identity(vae: AutoencoderKLWan) -> None:
    """Let every layer begin by handing its input on, so that the first steps already see colours.

    Residual branches begin at zero, resampling as picking and repeating, and the posterior with
    little noise; from the library's own start the first thousand steps go into finding this.
    """
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if not isinstance(module.conv_shortcut, nn.Identity):
                _hand_on(module.conv_shortcut)
        elif isinstance(module, WanResample):
            _hand_on(module.resample[1])
            if hasattr(module, "time_conv"):
                _hand_on(module.time_conv, parts=2 if module.mode == "upsample3d" else 1)
        elif isinstance(module, WanAttentionBlock):
            nn.init.zeros_(module.proj.weight)
            nn.init.zeros_(module.proj.bias)
    vae.quant_conv.bias[LATENT_CHANNELS:] -= 5  # of the log variance


def _hand_on(conv: nn.Module, parts: int = 1) -> None:
    """Make a convolution copy channel i to channel i (of each part of the output), nearly."""
    weight = conv.weight
    weight.mul_(0.1)
    nn.init.zeros_(conv.bias)
    middle = [size // 2 for size in weight.shape[2:]]
    if weight.ndim == 5:  # causal in time: the present frame is the last
        middle[0] = weight.shape[2] - 1
    share = weight.shape[0] // parts
    for part in range(parts):
        for channel in range(min(share, weight.shape[1])):
            weight[(part * share + channel, channel, *middle)] += 1


def build_transformer(
    num_layers: int = 6, num_attention_heads: int = 4, ffn_dim: int = 768
) -> WanTransformer3DModel:
    """Wan2.1's denoising transformer; heads of 64, so that rotary positions split as usual."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=num_attention_heads,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=ffn_dim,
        num_layers=num_layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=1024,
    )


def build_text_encoder(vocabulary_size: int, num_layers: int = 3) -> UMT5EncoderModel:
    """A UMT5 encoder; dropout off, since its training texts never repeat enough to memorise."""
    config = UMT5Config(
        vocab_size=vocabulary_size,
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_heads=4,
        num_layers=num_layers,
        num_decoder_layers=num_layers,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
        is_encoder_decoder=True,
    )
    return UMT5EncoderModel(config)


def build_scheduler(flow_shift: float = DEFAULTS.flow_shift) -> UniPCMultistepScheduler:
    """Wan2.1's scheduler, with the shift that suits small clips."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        num_train_timesteps=1000,
        flow_shift=flow_shift,
    )


def save_checkpoint(
    folder: Path,
    *,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
    text_encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Write the diffusers folder, weights in fp16: half the size, with 3 bits more than bf16."""
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=_half_copy(text_encoder, build_text_encoder(len(tokenizer))),
        vae=_half_copy(vae, AutoencoderKLWan.from_config(vae.config)),
        scheduler=build_scheduler(),
        transformer=_half_copy(transformer, WanTransformer3DModel.from_config(transformer.config)),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    # transformers loads a model in the dtype that its config names, diffusers in fp32; without
    # this the text encoder alone would come up in fp16, which CPUs run slowly.
    config = folder / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"float16"', '"float32"'))


def _half_copy(source: ModelT, target: ModelT) -> ModelT:
    target.load_state_dict(source.state_dict())
    return target.half()

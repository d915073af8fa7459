"""What several GPUs keep each and share with ZeRO: by DeepSpeed's formulas, never measured here.

`estimate_zero2_model_states_mem_needs` (deepspeed/runtime/zero/stage_1_and_2.py, 0.19) counts for
each parameter 2 bytes of weights on every GPU and 18 shared ones: 2 of gradients, 4 of gradients in
fp32, 4 of weights in fp32, 8 of Adam's states in fp32. `estimate_zero3_model_states_mem_needs`
(stage3.py) shares the weights too, 18 bytes in all, and adds the largest layer, whole, with its
gradients. Stage 1 shares all but weights and gradients.
"""

from __future__ import annotations

REDUCE_BUCKET = 500_000_000
PREFETCH_BUCKET = 50_000_000
"""Values of `reduce_bucket_size` and `stage3_prefetch_bucket_size`
(deepspeed/runtime/zero/config.py)."""
_FULL_BYTES = 4


def shared_states(
    stage: int, gpus: int, *, weights: int, trained: int, largest: int, value_bytes: int
) -> dict[str, int]:
    """Bytes on each GPU, by what they are.

    Args:
        stage: 1 to 3.
        gpus: that share.
        weights: values of the model, frozen ones included.
        trained: values that are trained.
        largest: values of the largest layer.
        value_bytes: of a weight; with two of them there is another copy in fp32, and gradients.
    """
    copies = 4 if value_bytes < _FULL_BYTES else 2  # master, gradients and two states, or states
    # In stage 3 its formula has them in fp32 only, beside those of the gathered layer.
    gradients = 0 if stage >= 3 else _share(trained * value_bytes, gpus if stage == 2 else 1)
    bucket = min(trained, REDUCE_BUCKET) * value_bytes
    return {
        "weights": _share(weights * value_bytes, gpus if stage >= 3 else 1),
        "gradients": gradients,
        "shared states in fp32": _share(trained * copies * _FULL_BYTES, gpus),
        "communication bucket": bucket,
        "gathered layer": 2 * value_bytes * largest if stage >= 3 else 0,
        "prefetched weights": min(weights, PREFETCH_BUCKET) * value_bytes if stage >= 3 else 0,
    }


def _share(size_bytes: int, gpus: int) -> int:
    return -(-size_bytes // gpus)

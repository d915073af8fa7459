"""Types of GGUF files of Wan: which blocks their weights are in.

All files that are passed around come from one converter, and its rules say it (city96/ComfyUI-GGUF,
tools/lcpp.patch, img_tensor_get_type and what stands there for LLM_ARCH_WAN): layers of the
transformer's blocks only; the values of attention and the second layer of the feed-forward are in
finer blocks where the type ends in `_m`.
"""

GGUF = "gguf"
"""The quantisation of weights that come in blocks from a GGUF file; `gguf_type` says which."""
GGUF_MIXES = {
    "q8_0": ("Q8_0", "Q8_0"),
    "q6_k": ("Q6_K", "Q6_K"),
    "q5_k_m": ("Q5_K", "Q6_K"),
    "q5_k_s": ("Q5_K", "Q5_K"),
    "q4_k_m": ("Q4_K", "Q6_K"),
}
"""For each value of the setting `gguf_type`: blocks of most layers, and the finer ones."""

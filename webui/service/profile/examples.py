"""Matrices that are ready to run: `python -m webui profile demo`, and the page's first text."""

from __future__ import annotations

DEMO = """\
# Four rows of the built-in demo model: any machine, no GPU, a minute or two.
- name: baseline
  description: everything on the device, fp32
  model: demo
  frames: 9
  height: 96
  width: 96
  steps: 4
  settings: {precision: fp32, text_encoder: gpu, vae_tiling: false}
  logging: {log_interval: 1}
- name: tiled-decode
  description: the same, decoded in overlapping tiles
  model: demo
  frames: 9
  height: 96
  width: 96
  steps: 4
  settings: {precision: fp32, text_encoder: gpu, vae_tiling: true, vae_tile: 64,
             vae_tile_overlap: 16}
  logging: {log_interval: 1}
# The guide's own form; what has no effect here says so in the result.
- name: guide
  description: half the bytes for the transformer, as a row of the guide's matrix
  request: {model: demo, frames: 9, height: 96, width: 96, steps: 4}
  model_config: {load_strategy: full, precision: bf16, device: cpu, offload: false}
  optimization: {attention_slicing: true, gradient_checkpointing: false, batch_size: 1,
                 micro_batch_size: 1, parallel_degree: 1}
  logging: {profile_memory: true, log_interval: 2}
- name: traced
  description: with a trace that names the code lines
  model: demo
  frames: 5
  height: 64
  width: 64
  steps: 2
  settings: {precision: fp32, text_encoder: gpu}
  logging: {log_interval: 1, trace_path: traces/traced, active: 1}
"""

WAN = """\
# The guide's configuration (section 3.2), on Wan2.1 T2V 1.3B with the authors' defaults, and the
# same with weights that stay on the card. Needs a GPU; random_weights needs no download.
- name: optimization_test_1
  description: 使用模型分块加载和注意力切片的优化配置
  random_weights: true
  model_config:
    load_strategy: block      # full | block
    precision: fp16           # fp32 | fp16 | bf16
    device: cuda
    offload: false
  optimization:
    attention_slicing: true
    gradient_checkpointing: false
    batch_size: 1
    micro_batch_size: 1
    parallel_degree: 1
  logging:
    profile_memory: true
    log_interval: 10          # steps
    trace_path: traces/opt_test_1
- name: baseline
  random_weights: true
  model_config: {load_strategy: full, precision: fp16, device: cuda, offload: false}
  logging: {profile_memory: true, log_interval: 10}
"""

EXAMPLES = {"demo": DEMO, "wan": WAN}
"""By the name that the command line takes in place of a file."""

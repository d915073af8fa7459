"""What the editor shows where there is no configuration yet: every key with its default."""

from __future__ import annotations

DEFAULT_TEXT = """\
# The settings of this studio; a key that is left out is by default.
# 本站的设置；省略的键采用默认值。

# Folders with weights, by model name
# 按模型名称指定权重文件夹
models: {}
# Where downloads go; null: the hub's own place
# 下载位置；null 为 Hub 的默认位置
hub_cache: null
# en or zh; null follows the browser
# en 或 zh；null 跟随浏览器
language: null
# Correct estimates by what this machine's runs showed
# 按本机的运行结果修正估算
calibration: true
# Serve /metrics in Prometheus' format
# 以 Prometheus 格式提供 /metrics
metrics: false
memory:
  # Choose what a request leaves open; else it takes its default
  # 自动选择未指定的设置，否则用默认值
  auto_optimize: true
  # Cards with less memory (GiB) never run a model in fp32, also when it is named; 16 is usual
  # 显存（GiB）低于该值的显卡不以 fp32 运行模型，即使请求指定了 fp32；常用 16
  force_fp16_threshold: 0.0
  # Keep a history of the devices' readings
  # 记录设备读数的历史
  enable_monitoring: true
  # Share of a card's memory from which the dashboard warns
  # 显存使用率超过该值时提醒
  warn_threshold: 0.85
  # Give the allocator's cache back after each job
  # 每个任务结束后归还显存缓存
  clear_cache_after_generation: true
  # How often a job that ran out of memory is planned anew
  # 显存不足的任务重新规划并再试的次数
  retries_after_out_of_memory: 2
# What visitors may ask for
# 对访客的限制
limits:
  max_queued: 20
  max_queued_per_user: 3
  max_pixel_frames: 32348160
  max_steps: 60
  max_prompt_characters: 2000
  max_pages: 200
"""

"""VRAM Studio: says how much VRAM a job takes before it runs, makes it fit, and measures it."""

__version__ = "0.1.0"

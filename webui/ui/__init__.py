"""The pages: forms in, plans and results out. Alone imports gradio; `Studio` does the work."""

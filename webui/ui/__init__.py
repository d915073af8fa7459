"""The pages: forms in, plans and results out. Alone imports gradio; all work goes through `Studio`."""

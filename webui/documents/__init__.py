"""Documents: their pages as pictures, what stood on them as blocks, and the files made of those.

Used by the worker, which opens the pages and reads them, and by the service, which puts the pages'
files together. Files from outside are opened only in a process of its own (`python -m
webui.documents` counts pages, the worker draws them), so that a decoder's fault ends only that.
"""

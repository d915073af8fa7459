"""Videos: what one is, its frames exactly as they are, and a long one written piece by piece.

Used by the worker, which reads frames and writes those that a model made, and by the service, which
plans the pieces and has them joined. Files from outside are opened only in a process of its own
(`python -m webui.video`, or the worker), so that a decoder's fault ends only that.
"""

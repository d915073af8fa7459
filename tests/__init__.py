"""The tests; a package, so that `python -m tests` is this one and no library's."""

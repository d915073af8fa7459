"""The worker: a process that owns one device; it loads, runs, measures and reports."""

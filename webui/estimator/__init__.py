"""Memory and time of given settings: replays templates through a model of the allocator."""

"""A few samples of a shard, a pool or a data set, for a person at a terminal."""

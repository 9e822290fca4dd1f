"""What is on disk: shards, indexes, sidecars, data set versions, and the training loader."""

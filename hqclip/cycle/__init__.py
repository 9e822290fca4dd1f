"""The self-reinforcing cycle around annotation and training: plan, score, curate, promote, lineage."""

"""What a cycle will take: the work of each stage, at the pace that the store has seen, by the prices of a table."""

"""What became of all cycles of a store, night after night: read from small records, shown on one page."""

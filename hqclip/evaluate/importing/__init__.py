"""Sets as others publish them in, sets of a suite out: one file a layout."""

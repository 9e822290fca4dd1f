"""A data set version out of annotations: scored, checked rule by rule, described on a page."""

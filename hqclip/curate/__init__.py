"""Annotations and scores in, a data set version out: cleaned by rule, counted, compared with the one before."""

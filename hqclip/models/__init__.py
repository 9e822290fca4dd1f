"""Models that are made elsewhere: what a person calls one in, its files in a folder of this machine out."""

"""The tables of one run, by what they are about."""

"""Fills, copies and updates: the bytes they write, the bytes they leave alone, and the order that data shows."""

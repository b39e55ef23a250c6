"""Learners that read demonstrations."""

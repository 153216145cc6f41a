"""Runs from beginning to end: all parties in one process, each in its own, or one organisation's on its machine.

Also what runs leave in their folders, and what is asked of finished models: scores and lists.
"""

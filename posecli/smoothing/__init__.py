"""Tracks made steady: filters over time, gaps filled, pose streams read and written."""

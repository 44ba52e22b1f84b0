"""People across frames."""

"""The fuzz harness: samples, ways to spoil them, a warm server, promises that are kept whatever comes."""

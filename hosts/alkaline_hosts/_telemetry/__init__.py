"""Traces of runs: spans whose ids are derived from the run, made of what is told live or of a history, and written."""

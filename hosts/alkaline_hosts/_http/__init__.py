"""Runs over HTTP without any I/O: messages, routes, who may ask, and what both sides of a verb agree on."""

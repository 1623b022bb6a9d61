"""A polite crawler: what is in scope, what a host allows, one request at a time, and a report of every address."""

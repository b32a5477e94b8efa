"""Commands of manage.py: each parses, calls one service and prints."""

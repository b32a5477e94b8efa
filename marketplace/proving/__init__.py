"""`manage.py prove`: the twelve promises, each tried under faults on a site of its own, on the reader's own machine.

One file holds each promise's scenes: what is done, what must come of it, and a check that can fail. The command runs
them in processes of their own (`running`, `child`), tests/promises/ with other numbers and on PostgreSQL, too.
"""

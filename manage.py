#!/usr/bin/env python
"""Farebox's command line: `python manage.py help` lists what there is."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # Database, mails and secrets are customers' data: nobody else on the machine may read them.
    # All that the site runs inherits it.
    os.umask(0o077)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
    execute_from_command_line(sys.argv)

"""One step of `manage.py prove` in a process of its own: `python -m marketplace.proving.child STEP RESULT`.

STEP is a promise's number, or `prepare`; its row is written to the file RESULT. VAR_DIR names the folder of the
attempt. The process ends, and all that it started, when its standard input does: then who started it is gone.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import django


def main(step: str, result: Path) -> None:
    """Do a step, and write what it came to."""
    os.umask(0o077)
    threading.Thread(target=_end_with_our_parent, name="watch", daemon=True).start()
    os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"
    django.setup()
    if step == "prepare":
        from marketplace.installation import migrate  # noqa: PLC0415 (after Django's setup)

        migrate(say=lambda _: None)
        told = "{}"
    else:
        from marketplace.proving.rows import try_here  # noqa: PLC0415 (the same)

        told = json.dumps(try_here(int(step)).as_json())
    result.write_text(told)
    os._exit(0)  # Threads that still wait for something need not be waited for: all that is left is ended by `running`.


def _end_with_our_parent() -> None:
    os.read(0, 1)  # Not by `sys.stdin`, whose lock the interpreter wants when it ends.
    os.killpg(0, signal.SIGKILL)  # Its own group: see `running`.


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

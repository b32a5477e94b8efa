"""Facts are append-only, and the ledger balances, whatever the code above does."""

from typing import ClassVar

from django.db import migrations

from billing.triggers import install_triggers, remove_triggers


class Migration(migrations.Migration):
    """Creates the triggers."""

    dependencies: ClassVar = [("billing", "0001_initial")]
    operations: ClassVar = [migrations.RunPython(install_triggers, remove_triggers)]

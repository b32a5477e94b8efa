"""How the operator's pages name keys. Nothing changes in the database."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0002_audit_append_only")]

    operations = [migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"})]

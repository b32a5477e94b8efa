"""Fewer indexes on the request log: its two by time serve what is read."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("marketplace", "0004_audit_check"),
    ]

    operations = [
        migrations.AlterField(
            model_name="requestlog",
            name="key",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="requests", to="marketplace.apikey"
            ),
        ),
        migrations.AlterField(
            model_name="requestlog",
            name="organization",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="requests", to="marketplace.organization"
            ),
        ),
        migrations.AlterField(
            model_name="requestlog",
            name="version",
            field=models.ForeignKey(
                db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to="marketplace.modelversion"
            ),
        ),
    ]

"""Late usage: which events it is, the lines it is billed on, and where each closed month was sealed."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

from billing.triggers import append_only

# Months that were closed before the seal was kept: the receipt before the first call that was admitted after the close.
# Where there was none yet, the last receipt there is. Never too low: nothing that is on the invoice is taken for late.
_SEAL = """
UPDATE billing_invoice SET sealed_seq = COALESCE(
    (SELECT r.seq FROM billing_usageevent e JOIN billing_receipt r ON r.event_id = e.id
     WHERE e.account_id = billing_invoice.account_id AND e.occurred_at >= billing_invoice.created_at
     ORDER BY e.occurred_at LIMIT 1) - 1,
    (SELECT h.seq FROM billing_receipthead h WHERE h.account_id = billing_invoice.account_id),
    0)
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0019_usage_sums_by_hour")]

    operations = [
        migrations.CreateModel(
            name="LateUsage",
            fields=[
                (
                    "event",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="late",
                        serialize=False,
                        to="billing.usageevent",
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="late_usage", to="billing.account"
                    ),
                ),
                ("period", models.DateTimeField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"indexes": [models.Index(fields=["account", "period"], name="late_by_period")]},
        ),
        migrations.RemoveConstraint(model_name="invoiceline", name="line_once_per_price"),
        migrations.AddField(model_name="invoice", name="sealed_seq", field=models.BigIntegerField(editable=False, null=True)),
        migrations.AddField(model_name="invoiceline", name="late_from", field=models.DateTimeField(null=True)),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(
                condition=Q(late_from__isnull=True), fields=("invoice", "sku", "price"), name="line_once_per_price"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(
                condition=Q(late_from__isnull=False), fields=("invoice", "sku", "price", "late_from"), name="line_once_per_late_month"
            ),
        ),
        migrations.RunPython(append_only("billing_invoiceline"), append_only("billing_invoiceline")),
        migrations.RunPython(append_only("billing_lateusage"), migrations.RunPython.noop),
        migrations.RunSQL(_SEAL, migrations.RunSQL.noop),
    ]

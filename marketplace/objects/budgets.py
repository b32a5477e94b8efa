"""Budgets as objects."""

from typing import Any

from rest_framework import serializers

from billing.ids import public_id
from marketplace.models.caps import INTERVALS
from marketplace.objects.fields import Amount, Constant, Moment, View


class BudgetView(View):
    """A budget and what is used of it. left = limit - spent - held, and never below 0."""

    object = Constant("budget")
    id = serializers.CharField(help_text="`balance`, `organization_day`, `key_..._month`: whose it is and its interval.")
    policy = serializers.CharField(source="name.policy", help_text="What a 402 calls it.")
    holder = serializers.ChoiceField(choices=["balance", "organization", "key"], source="name.holder")
    key = serializers.SerializerMethodField(help_text="The key's id, where it is a key's; null otherwise.")
    interval = serializers.ChoiceField(choices=INTERVALS, source="name.interval", help_text="Days and months are UTC.")
    limit = Amount(source="limit_nanos", allow_null=True, help_text="null: no cap is set.")
    spent = Amount(source="spent_nanos", help_text="Settled in this period, less refunds.")
    held = Amount(source="held_nanos", help_text="Set aside for calls that run now; what they do not use comes back.")
    left = Amount(source="left_nanos", allow_null=True)
    currency = serializers.CharField()
    resets_at = Moment(allow_null=True, help_text="When the next period starts; null: never.")
    thresholds = serializers.ListField(child=serializers.IntegerField(), help_text="Percentages at which the organization is told.")

    def get_key(self, state: Any) -> str | None:
        """Return the key's public id."""
        return public_id("key", state.key.pk) if state.key else None

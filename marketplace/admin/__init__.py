"""The operator's dashboard (django-unfold), one file per area.

Nothing here holds a rule: pages show rows, and each deed is one call of a service, which
records it with the operator's name.
"""

from marketplace.admin import audit, billing, catalogue, keys, requests, tenants

__all__ = ["audit", "billing", "catalogue", "keys", "requests", "tenants"]

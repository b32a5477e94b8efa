"""Tell every gateway process that cached control data changed, in the change's own transaction."""

from marketplace.models import ApiKey, CatalogueModel, ControlChange, Organization


def key_changed(key: ApiKey) -> None:
    """Have every process forget this key within a second of the commit."""
    ControlChange.objects.create(subject=ControlChange.Subject.KEY, reference=key.digest)


def organization_changed(organization: Organization) -> None:
    """Have every process forget all keys of this organization."""
    ControlChange.objects.create(subject=ControlChange.Subject.ORGANIZATION, reference=organization.pk.hex)


def model_changed(model: CatalogueModel) -> None:
    """Have every process forget this model, its versions and its prices."""
    ControlChange.objects.create(subject=ControlChange.Subject.MODEL, reference=model.path)

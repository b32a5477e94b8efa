"""Who is paid for a model's calls: its owner, less the fee that the site had when the model first went live, or that the operator set since.

Billing knows only accounts and SKUs: here it is told of them.
"""

from django.conf import settings
from django.db import transaction

from billing.models import SkuShare
from billing.shares import set_share
from marketplace import audit
from marketplace.models import CatalogueModel, User


def start_share(model: CatalogueModel, *, by: str) -> None:
    """Have the owner earn from a model's calls from now on, if nothing was ever said of it. In a transaction."""
    if not SkuShare.objects.filter(subject=model.path).exists():
        set_share(model.path, payee=model.owner.account, fee_basis_points=settings.PLATFORM_FEE_BASIS_POINTS, by=by)


@transaction.atomic
def set_model_fee(model: CatalogueModel, *, fee_basis_points: int, reason: str, by: User | str) -> SkuShare:
    """Set what the site keeps of a model's charges from the next hour on; what was earned before stays as it is.

    Raises:
        ShareInvalid: the fee is more than all, or one begins with the next hour already. Nothing was changed.
    """
    share = set_share(model.path, payee=model.owner.account, fee_basis_points=fee_basis_points, by=str(by))
    details = {"fee_basis_points": fee_basis_points, "effective_from": share.effective_from.isoformat(), "reason": reason}
    audit.record(model.owner, action="model.fee_set", target=model, by=by, details=details)
    return share

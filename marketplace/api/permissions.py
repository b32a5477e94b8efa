"""What a key may do: each view names the scope of each of its methods."""

from collections.abc import Mapping
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from marketplace.api.authentication import key_of
from marketplace.gateway.callers import caller_of


class HasScope(BasePermission):
    """Lets a key do what its kind and scopes allow."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or refuse by raising, which says which scope is missing.

        A view that declares no scopes is a mistake of ours and fails with 500, closed.

        Raises:
            ScopeMissing: the key lacks the method's scope.
        """
        scopes: Mapping[str, str] = view.scope  # {"GET": "keys:read"}; importing the views' class here would be a circle.
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method in scopes:  # Any other method is refused with 405 by the view itself.
            caller_of(key_of(request)).check_scope(scopes[method])
        return True

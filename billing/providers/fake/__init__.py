"""FAKE STRIPE: an ASGI server that answers as Stripe's API does. No money moves.

`STRIPE=fake make run` starts it beside the site, and the tests drive it over real HTTP. It is
strict, so that what works against it works against Stripe: parameters are checked against the
SDK's own types, idempotency keys are honoured, webhooks are signed, and faults come on demand.
It knows nothing of billing: whoever talks to it, does so over HTTP alone.
"""

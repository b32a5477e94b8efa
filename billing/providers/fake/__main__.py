"""`python -m billing.providers.fake`: the fake, as the site's supervisor starts it for STRIPE=fake."""

import argparse
import os
from pathlib import Path

from billing.providers.fake.server import serve


def main() -> None:
    """Serve with what the command line says; the webhooks' secret comes from the environment."""
    parser = argparse.ArgumentParser(prog="python -m billing.providers.fake", description="FAKE Stripe: no money moves.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="SQLite file that keeps what happened")
    parser.add_argument("--webhook-url", required=True)
    asked = parser.parse_args()
    asked.state.parent.mkdir(parents=True, exist_ok=True)
    secret = os.environ["STRIPE_WEBHOOK_SECRET"]
    serve(port=asked.port, state=asked.state, webhook_url=asked.webhook_url, webhook_secret=secret)


if __name__ == "__main__":
    main()

"""`manage.py train sentiment`: make a starter model again, from pinned sources."""

import importlib.util
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

# What the `train` extra brings; serving installs none of it.
_NEEDED: Final = ("torch", "onnx", "sklearn", "matplotlib", "tqdm")


class Command(BaseCommand):
    """Train, export and measure one model of the starter catalogue."""

    help = "Train, export and measure a model of the starter catalogue (needs the train extra)."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the recipe and what of it may be changed."""
        parser.add_argument("recipe", choices=["sentiment"])
        parser.add_argument("--out", type=Path, help="folder that gets the files (default: inference/starter/RECIPE)")
        parser.add_argument("--data", type=Path, help="folder in aclImdb's layout to learn from instead")
        parser.add_argument("--seed", type=int, default=1, help="of the split, the weights and the order")
        parser.add_argument("--epochs", type=int, help="the most epochs (default: the recipe's)")
        parser.add_argument("--quick", action="store_true", help="a small run that tests the recipe (needs --out)")

    def handle(self, *_args: object, **options: Any) -> None:
        """Run the recipe and print a line for each thing done."""
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            message = f"Training needs {', '.join(missing)}: pip install -r requirements/train.txt"
            raise CommandError(message)
        if options["quick"] and options["out"] is None:
            message = "--quick makes a poor model on purpose; name a folder for it with --out."
            raise CommandError(message)
        # Only here: importing torch takes seconds and serving machines do not have it.
        from inference.training.errors import TrainingError  # noqa: PLC0415 - see above
        from inference.training.sentiment import train_sentiment  # noqa: PLC0415 - see above

        try:
            train_sentiment(
                options["out"] or settings.STARTER_DIR / options["recipe"],
                seed=options["seed"],
                datasets=settings.VAR_DIR / "datasets",
                data=options["data"],
                epochs=options["epochs"],
                quick=options["quick"],
                say=self.stdout.write,
            )
        except TrainingError as error:
            raise CommandError(str(error)) from error

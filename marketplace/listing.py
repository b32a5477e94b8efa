"""The rules of the catalogue's entries: make one, say what it is, show or hide it."""

from collections.abc import Mapping

from django.db import IntegrityError, transaction

from marketplace import audit
from marketplace.changes import model_changed
from marketplace.errors import ModelNameTaken
from marketplace.models import ApiKey, CatalogueModel, Organization, User

Actor = User | ApiKey | str


@transaction.atomic
def create_model(
    *, owner: Organization, name: str, title: str, summary: str, task: str, card_markdown: str, public: bool, by: Actor
) -> CatalogueModel:
    """Make a catalogue entry; nobody can call it until one of its versions is live.

    Raises:
        ModelNameTaken: the owner has one of that name; nothing was made.
    """
    try:
        with transaction.atomic():
            model = CatalogueModel.objects.create(
                owner=owner, name=name, title=title, summary=summary, task=task, card_markdown=card_markdown, public=public
            )
    except IntegrityError:
        message = f"There is a model {owner.slug}/{name} already."
        raise ModelNameTaken(message) from None
    audit.record(owner, action="model.listed", target=model, by=by)
    model_changed(model)  # Who asked before may remember that there was none.
    return model


@transaction.atomic
def describe_model(model: CatalogueModel, *, facts: Mapping[str, str], by: Actor) -> None:
    """Change what the catalogue says of a model: any of title, summary, task and card_markdown."""
    changed = [name for name in ("title", "summary", "task", "card_markdown") if name in facts and facts[name] != getattr(model, name)]
    for name in changed:
        setattr(model, name, facts[name])
    if changed:
        model.save(update_fields=changed)
        audit.record(model.owner, action="model.described", target=model, by=by, details={"changed": changed})


@transaction.atomic
def set_visibility(model: CatalogueModel, *, public: bool, by: Actor) -> None:
    """Show a model to all organizations, or to its owner alone. Others lose it within a second."""
    model.public = public
    model.save(update_fields=["public"])
    model_changed(model)
    audit.record(model.owner, action="model.shown" if public else "model.hidden", target=model, by=by)

from typing import Any

import pytest
from django.test import Client

from marketplace.models import CatalogueModel, ModelVersion, Organization


@pytest.mark.django_db
def test_the_catalogue_is_open_to_all(client: Client, sentiment: ModelVersion) -> None:
    page = client.get("/models/").content.decode()

    assert "farebox/sentiment" in page
    assert "$0.20 per million tokens" in page


@pytest.mark.django_db
def test_a_models_page_shows_card_price_digest_and_snippets(client: Client, sentiment: ModelVersion) -> None:
    page = client.get("/models/farebox/sentiment/").content.decode()

    assert sentiment.digest in page
    assert "$0.20 per million tokens" in page
    assert "Model card" in page
    assert "TF-IDF" in page
    assert "urlopen(request)" in page
    assert "await fetch(" in page


def test_an_own_private_model_is_listed_for_its_members_alone(member: Client, organization: Organization, sentiment: ModelVersion) -> None:
    private = CatalogueModel.objects.create(owner=organization, name="own", title="Own one", summary="", task="x")
    sentiment.pk, sentiment.model, sentiment.number = None, private, 1
    sentiment.save(force_insert=True)

    assert "Own one" in member.get("/models/").content.decode()
    assert "Own one" not in Client().get("/models/").content.decode()


@pytest.mark.django_db
def test_a_retired_model_is_not_listed_and_its_page_says_so(client: Client, sentiment: ModelVersion) -> None:
    ModelVersion.objects.update(state=ModelVersion.State.RETIRED)

    assert "farebox/sentiment" not in client.get("/models/").content.decode()
    page = client.get("/models/farebox/sentiment/").content.decode()
    assert "retired" in page
    assert "data-playground" not in page


@pytest.mark.django_db
def test_a_cards_picture_can_neither_run_nor_load(client: Client, sentiment: ModelVersion, settings: Any) -> None:
    reply = client.get("/models/farebox/sentiment/1/learning-curve.svg")

    assert reply.status_code == 200
    assert reply["Content-Type"] == "image/svg+xml"
    assert "default-src 'none'" in reply["Content-Security-Policy"]
    assert "sandbox" in reply["Content-Security-Policy"]
    reply.close()  # The file.


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["model.onnx", "pipeline.json", "..%2Fmodel.onnx", "vocabulary.txt"])
def test_no_other_file_of_a_version_is_served(client: Client, sentiment: ModelVersion, name: str) -> None:
    assert client.get(f"/models/farebox/sentiment/1/{name}").status_code == 404

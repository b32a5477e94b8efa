import pytest
from django.test import Client

from marketplace.problems import PROBLEMS, type_url


@pytest.mark.django_db
@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_the_type_of_every_problem_leads_to_its_page(client: Client, code: str) -> None:
    path = "/" + type_url(code).split("/", 3)[3]

    page = client.get(path).content.decode()

    assert f"<code>{code}</code>" in page
    assert "What to do" in page


@pytest.mark.django_db
def test_the_index_names_every_code(client: Client) -> None:
    page = client.get("/docs/errors/").content.decode()

    assert [code for code in PROBLEMS if f"<code>{code}</code>" not in page] == []


@pytest.mark.django_db
def test_an_unknown_code_has_no_page(client: Client) -> None:
    assert client.get("/docs/errors/nonsense").status_code == 404


@pytest.mark.django_db
def test_the_docs_answer(client: Client) -> None:
    assert client.get("/docs/").status_code == 200

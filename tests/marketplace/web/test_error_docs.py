import pytest
from django.test import Client

from marketplace.problems import PROBLEMS, type_url
from marketplace.web.error_docs import _STATUS_MEANINGS


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


def test_every_status_says_what_it_means() -> None:
    # A heading of the number alone would be named as its table is: axe calls that indistinguishable.
    assert {problem.status for problem in PROBLEMS.values()} - _STATUS_MEANINGS.keys() == set()


@pytest.mark.django_db
def test_an_unknown_code_has_no_page(client: Client) -> None:
    reply = client.get("/docs/errors/nonsense")

    assert reply.status_code == 404
    assert "All error codes" in reply.content.decode()
    assert "All error codes" not in client.get("/nonsense").content.decode()


@pytest.mark.django_db
def test_the_docs_answer(client: Client) -> None:
    assert client.get("/docs/").status_code == 200

"""Fixtures for all tests, on a site of their own: nothing under var/ is read or written."""

import atexit
import gc
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import hypothesis
import pytest

# Before anything imports the settings: this session's database, secrets, mails and artifacts.
_VAR_DIR = Path(tempfile.mkdtemp(prefix="farebox-tests-"))
atexit.register(shutil.rmtree, _VAR_DIR, ignore_errors=True)
for _name in (
    "DATABASE_URL",
    "SECRET_KEY",
    "KEY_PEPPER",
    "SITE_URL",
    "HOST",
    "PORT",
    "CELERY_BROKER_URL",
    "SMTP_HOST",
    "ARTIFACTS_DIR",
    "STRIPE",
    "STRIPE_API_KEY",
):
    os.environ.pop(_name, None)
# A server to test on instead of SQLite, as a user who may create databases: tests/postgresql.py starts one.
if _url := os.environ.get("TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = _url
os.environ["VAR_DIR"] = str(_VAR_DIR)
os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"
(_VAR_DIR / "static").mkdir()  # WhiteNoise warns of a missing folder.
django.setup()  # Other folders' conftest files import models.
os.environ.pop("DATABASE_URL", None)  # It was read. Programs that tests start have databases of their own.

# Time is measured in benchmarks: on a busy machine an example may take any. What CI's own profile sets stays.
hypothesis.settings.register_profile("patient", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")

if TYPE_CHECKING:
    from marketplace.models import ModelVersion, Organization, User
    from marketplace.proving.hanging import SharedStripe
    from tests.till import Till

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _check_loopback(address: Any) -> None:
    """Let tests reach this machine only: a test that calls out would pass here and fail elsewhere."""
    if not isinstance(address, tuple):  # A Unix socket's path.
        return
    host = str(address[0])
    if host == "localhost" or ipaddress.ip_address(host).is_loopback:
        return
    message = f"A test tried to reach {host}: only loopback is open."
    raise PermissionError(message)


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _check_loopback(address)
    _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _check_loopback(address)
    return _connect_ex(self, address)


def pytest_report_header() -> list[str]:
    """Say what a run on a server leaves out."""
    return ["database: PostgreSQL; the tests that touch no database are left out of this run"] if _url else []


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist's processes find no settings named: pytest-django would load them at once, with this process's `VAR_DIR` for theirs."""
    if config.getoption("numprocesses", None):
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what touches no database out of a run on PostgreSQL, and have files with slow tests go first.

    Files are dealt out to processes one by one: a long one that comes last has the others wait for its end.
    """
    if _url:
        left_out = [item for item in items if not _touches_database(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _touches_database(item)]
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)  # Stable: the order is otherwise as it was.


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collector's rounds: it stays, and a round took a sixth of a second."""
    gc.collect()
    gc.freeze()


def _touches_database(item: pytest.Item) -> bool:
    """Whether pytest-django gives a test the database: by its mark, or by a fixture that any of its fixtures asks for."""
    return item.get_closest_marker("django_db") is not None or "db" in item.fixturenames or "transactional_db" in item.fixturenames


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    patch.setattr(socket.socket, "connect_ex", _guarded_connect_ex)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Have SQLite's test database in a file: in memory, threads that share it meet locks that no real one has.

    PostgreSQL's gets a name of its own for each of several test processes.
    """
    del django_db_modify_db_settings_parallel_suffix
    from django.db import connection

    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(_VAR_DIR / "test.sqlite3")


@pytest.fixture(autouse=True)
def _plain_site(settings: Any, tmp_path: Path) -> None:
    """Give each test its own artifact store and mailbox, fast passwords, and pages without collected static files."""
    settings.ARTIFACTS_DIR = tmp_path / "artifacts"
    settings.MAIL_DIR = tmp_path / "mail"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def user(db: None) -> "User":
    """A person whose e-mail address is verified, and who belongs to nothing yet."""
    from allauth.account.models import EmailAddress

    from marketplace.models import User

    person = User.objects.create_user("ada@example.com", "correct horse battery")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    return person


@pytest.fixture
def operator(db: None) -> "User":
    """A person who runs the site."""
    from marketplace.models import User

    return User.objects.create_superuser("operator@example.com", "correct horse battery")


@pytest.fixture
def organization(user: "User") -> "Organization":
    """The organization that `user` owns, without credit."""
    from marketplace.tenants import found_organization

    return found_organization(name="Acme", slug="acme", owner=user, by=user)


@pytest.fixture
def other_organization(db: None) -> "Organization":
    """Somebody else's organization, with an owner of its own."""
    from marketplace.models import User
    from marketplace.tenants import found_organization

    stranger = User.objects.create_user("mallory@example.com", "correct horse battery")
    return found_organization(name="Other", slug="other", owner=stranger, by=stranger)


@pytest.fixture
def live_key(organization: "Organization") -> str:
    """The secret of a live key of `organization`."""
    from marketplace.keys import KeySettings, issue_key

    return issue_key(organization=organization, name="Live", settings=KeySettings(), by="test")[1]


@pytest.fixture
def sentiment(db: None) -> "ModelVersion":
    """The starter model, published by the organization `farebox` at 200 nanos per token."""
    from django.conf import settings as site

    from inference.gate.examine import Examination
    from inference.gate.report import Report, passed
    from marketplace.publishing import list_model, publish_version
    from marketplace.tenants import found_organization

    source = site.STARTER_DIR / "sentiment"
    house = found_organization(name="Farebox", slug="farebox", owner=None, by="test")
    model = list_model(owner=house, name="sentiment", source=source, public=True, by="test")
    # What the gate finds of it is tested with the gate; here a second of it per test would be all that the tests do.
    examination = Examination(Report(checks=[passed("sandbox", "Not examined in this test.")]))
    return publish_version(model=model, source=source, unit="token", unit_nanos=200, by="test", examination=examination)


@pytest.fixture(scope="session")
def shared_stripe() -> "Iterator[SharedStripe]":
    """The fake Stripe's server, which all tests of this process share."""
    from marketplace.proving.hanging import serving_worlds

    with serving_worlds() as stripe:
        yield stripe


@pytest.fixture
def till(db: None, settings: Any, shared_stripe: "SharedStripe") -> "Iterator[Till]":
    """A fake Stripe of the test's own over real HTTP, which is this site's provider."""
    from tests.till import open_till

    settings.PAYMENTS = "fake"
    with open_till(shared_stripe) as opened:
        yield opened

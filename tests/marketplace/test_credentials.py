"""The form of API keys."""

import string

import pytest

from marketplace.credentials import SECRET_LENGTH, check_form, checksum, digest, mint_secret
from marketplace.errors import KeyMalformed, KeyMistyped
from marketplace.models import ApiKey


@pytest.mark.parametrize("kind", list(ApiKey.Kind))
@pytest.mark.parametrize("livemode", [True, False])
def test_a_minted_secret_passes_its_own_check(kind: ApiKey.Kind, livemode: bool) -> None:
    secret = mint_secret(kind, livemode=livemode)

    check_form(secret)
    assert secret.startswith(f"fb_{kind}_{'live' if livemode else 'test'}_")
    assert len(secret) == SECRET_LENGTH == 49


def test_the_checksum_is_crc32_in_base62_padded_with_zeros() -> None:
    # CRC-32 of "123456789" is 0xCBF43926 (the algorithm's published check value).
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    value = 0
    for character in checksum("123456789"):
        value = value * 62 + digits.index(character)
    assert value == 0xCBF43926
    assert len(checksum("")) == 6
    assert checksum("") == "000000"  # CRC-32 of nothing is 0.


@pytest.mark.parametrize("position", [0, 5, 15, 31, 37])
def test_one_wrong_character_is_called_a_typing_error(position: int) -> None:
    secret = mint_secret(ApiKey.Kind.SECRET, livemode=True)
    at = 11 + position
    wrong = "A" if secret[at] != "A" else "B"

    with pytest.raises(KeyMistyped):
        check_form(secret[:at] + wrong + secret[at + 1 :])


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "fb_sk_live_",
        "sk_live_0123456789",
        "fb_xx_live_" + "a" * 38,
        "fb_sk_prod_" + "a" * 38,
        "fb_sk_live_" + "ä" * 38,
        "fb_sk_live_" + "a" * 39,
    ],
)
def test_what_does_not_look_like_a_key_is_malformed(secret: str) -> None:
    with pytest.raises(KeyMalformed):
        check_form(secret)


def test_the_digest_depends_on_every_character_and_hides_them() -> None:
    one, two = (mint_secret(ApiKey.Kind.SECRET, livemode=True) for _ in range(2))

    assert digest(one) != digest(two)
    assert len(digest(one)) == 64
    assert one not in digest(one)

import base64

from marketplace.webhooks.signing import mint_secret, sign, signature_headers

# Standard Webhooks' own example.
SECRET, MESSAGE, TIMESTAMP, BODY = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1614265330,
    b'{"test": 2432232314}',
)
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_standards_check_value() -> None:
    assert sign(SECRET, message_id=MESSAGE, timestamp=TIMESTAMP, body=BODY) == SIGNATURE


def test_while_a_secret_rotates_both_sign_in_one_header() -> None:
    other = mint_secret()

    headers = signature_headers([other, SECRET], message_id=MESSAGE, timestamp=TIMESTAMP, body=BODY)

    first, second = headers["webhook-signature"].split(" ")
    assert (second, first) == (SIGNATURE, sign(other, message_id=MESSAGE, timestamp=TIMESTAMP, body=BODY))
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (MESSAGE, "1614265330")


def test_a_secret_is_24_random_bytes() -> None:
    secrets = {mint_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(secret.startswith("whsec_") and len(base64.b64decode(secret[6:], validate=True)) == 24 for secret in secrets)

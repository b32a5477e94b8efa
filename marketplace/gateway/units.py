"""What a call uses, in its price's unit: known before it runs."""

from billing.pricing import Terms


def count_units(terms: Terms, *, rows: int, tokens: int, body_bytes: int) -> int:
    """Return a call's units.

    Args:
        terms: The price; its unit is a call, a row, a token or a byte.
        rows: Texts, or the first dimension that all tensors share.
        tokens: Ids sent to the model, or time steps (`inference.signature.Measure`).
        body_bytes: Of the request's body.
    """
    if terms.unit == "token":
        return tokens
    if terms.unit == "row":
        return rows
    return body_bytes if terms.unit == "byte" else 1

"""Check every receipt against the call it tells of: an edit behind our back shows, whoever made it and in whichever table."""

from collections.abc import Iterator

from billing.models import Account, Receipt, ReceiptHead, ReceiptKey
from billing.receipting import read_receipts
from billing.receipts import GENESIS, canonical, is_signed, leaf_hash


def check_receipts() -> Iterator[str]:
    """Yield a sentence for everything that is wrong with any account's receipts; nothing where all are as they were signed.

    Each is made anew from its call as the database tells it now, and must be what was hashed, chained and
    signed then. About 100 us a receipt, so it is for the night.
    """
    keys = {key.pk: bytes.fromhex(key.public) for key in ReceiptKey.objects.all()}
    heads = {head.account_id: head for head in ReceiptHead.objects.all()}
    for account in Account.objects.filter(receipts__isnull=False).distinct().iterator():
        yield from _check_chain(account, heads.pop(account.pk, None), keys)
    for account_id, head in heads.items():
        yield f"Account {account_id} has no receipts, but had {head.seq}."


def _check_chain(account: Account, head: ReceiptHead | None, keys: dict[str, bytes]) -> Iterator[str]:
    seq, previous = 0, GENESIS
    stored = dict(Receipt.objects.filter(account=account).values_list("seq", "hash"))
    for receipt in read_receipts(account):
        number, leaf = receipt.body["seq"], leaf_hash(canonical(receipt.body))
        name = f"Receipt {number} of account {account.pk}, call {receipt.body['call']},"
        if number != seq + 1:
            yield f"Receipts {seq + 1} to {number - 1} of account {account.pk} are missing."
        elif receipt.body["previous"] != previous.hex():
            yield f"{name} does not follow the one before it."
        if leaf != bytes(stored[number]):
            yield f"{name} is not what was hashed: the call or the receipt was changed."
        elif receipt.key_id not in keys or not is_signed(receipt, keys[receipt.key_id]):
            yield f"{name} is not what was signed."
        seq, previous = number, bytes(stored[number])
    if head is None or (head.seq, bytes(head.hash)) != (seq, previous):
        yield f"The receipts of account {account.pk} end with {seq}, which is not where its chain ended."

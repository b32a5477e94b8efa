"""The mutants are what they are said to be: one change each, of the kinds that guard money."""

import ast

from tests.mutation.mutants import mutants_of

SOURCE = '''
def take(cursor, budget, amount):
    """Docstrings stay."""
    with lock:
        row = Account.objects.select_for_update().get(pk=budget)
    if amount > 0 and row:
        row.left -= amount
    cursor.execute("UPDATE budget SET spent = spent + %s WHERE id = %s AND spent + %s <= cap", [amount])
    return max(0, amount - 1)
'''


def changes() -> set[tuple[str, str]]:
    return {(mutant.before, mutant.after) for mutant in mutants_of(SOURCE)}


def test_locks_conditions_boundaries_and_signs_are_changed_one_at_a_time() -> None:
    found = changes()

    assert ("lock", "__import__('contextlib').nullcontext()") in found
    assert ("Account.objects.select_for_update()", "Account.objects.all()") in found
    assert {("amount > 0", "amount >= 0"), ("amount > 0 and row", "(row)"), ("amount > 0 and row", "False")} <= found
    assert ("row.left -= amount", "pass") in found
    assert {("max", "min"), ("amount - 1", "(amount) + (1)"), ("1", "2")} <= found
    sql = {after for before, after in found if before.startswith('"UPDATE')}
    assert {
        "'UPDATE budget SET spent = spent + %s WHERE id = %s'",
        "'UPDATE budget SET spent = spent - %s WHERE id = %s AND spent + %s <= cap'",
    } <= sql
    assert "'UPDATE budget SET spent = spent + %s WHERE id = %s AND spent + %s < cap'" in sql


def test_each_mutant_differs_from_the_source_and_from_the_others_and_can_be_read() -> None:
    sources = [mutant.source for mutant in mutants_of(SOURCE)]

    assert len(sources) == len({ast.dump(ast.parse(source)) for source in [SOURCE, *sources]}) - 1


def test_a_docstring_is_not_changed() -> None:
    assert all('"""Docstrings stay."""' in mutant.source for mutant in mutants_of(SOURCE))

import pytest
from django.db import connection

from billing.sql import insert_rows


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 2, 3, 23, 63, 64, 65, 129])
def test_every_row_of_a_group_is_inserted_once_and_in_order(count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE numbers (place INTEGER, doubled INTEGER)")
        insert_rows(cursor, "INSERT INTO numbers (place, doubled)", [(place, 2 * place) for place in range(count)])
        cursor.execute("SELECT place, doubled FROM numbers ORDER BY place")
        rows = cursor.fetchall()
        cursor.execute("DROP TABLE numbers")

    assert rows == [(place, 2 * place) for place in range(count)]

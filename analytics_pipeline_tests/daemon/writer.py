"""A busy application: inserts, updates and deletes orders and reviews until it is ended.

`python -m analytics_pipeline_tests.daemon.writer URL`
"""

from __future__ import annotations

import random
import sys
import time

import psycopg

STATEMENTS = (
    "INSERT INTO orders SELECT max(id) + 1, now(), 'Oslo', 1.5 FROM orders",
    "INSERT INTO orders SELECT max(id) + 1, now() - interval '1 day' * %(days)s, 'late', 2.5 FROM orders",
    "INSERT INTO reviews SELECT max(id) + 1, %(id)s, now() - interval '1 day' * %(days)s, random() FROM reviews",
    "INSERT INTO reviews SELECT max(id) + 1, %(id)s, NULL, 0 FROM reviews",
    "UPDATE orders SET city = 'Rome', amount = amount + 1 WHERE id = %(id)s",
    "UPDATE orders SET placed_at = placed_at - interval '1 day' WHERE id = %(id)s",
    "UPDATE reviews SET placed_at = now() WHERE order_id = %(id)s",
    "DELETE FROM reviews WHERE id = (SELECT id FROM reviews ORDER BY id OFFSET %(id)s LIMIT 1)",
    "DELETE FROM orders WHERE id = (SELECT id FROM orders ORDER BY id OFFSET %(id)s LIMIT 1)",
)


def main(url: str) -> None:
    """Write a little, again and again, and rest for half a minute now and then."""
    choice = random.Random(7)  # noqa: S311 - the same disorder in every run
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            for _ in range(choice.randrange(1, 60)):
                values = {"id": choice.randrange(3, 40), "days": choice.randrange(4)}
                connection.execute(choice.choice(STATEMENTS), values)
                time.sleep(choice.random() / 2)
            time.sleep(choice.choice([0, 1, 30]))


if __name__ == "__main__":
    main(sys.argv[1])

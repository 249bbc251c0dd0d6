"""Kite's postback: an order's change, posted to the URL an app is registered with, proven by the app's secret.

Pure. Whoever knows the URL can post to it, so nothing of it is believed but that there is news of an order.
"""

import hashlib
import hmac
import json

from broker_connector.base import Forged
from broker_connector.kite_book import book_entry
from broker_connector.kite_words import UNREADABLE, Unreadable, word
from engine.domain.broker import BookEntry


def read(body: bytes, api_secret: str) -> BookEntry:
    """The order a postback tells of. Raises Unreadable naming the field, and Forged."""
    try:
        told = json.loads(body)
        order_id, stamp, checksum = (word(told[name]) for name in ("order_id", "order_timestamp", "checksum"))
    except UNREADABLE as error:
        raise Unreadable(f"postback: {type(error).__name__}: {error}") from error
    expected = hashlib.sha256(f"{order_id}{stamp}{api_secret}".encode()).hexdigest()
    # In the same time wherever the two differ: else a guess could be mended letter by letter.
    if not hmac.compare_digest(expected.encode(), checksum.encode()):
        raise Forged
    return book_entry(told)

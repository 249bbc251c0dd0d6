"""Settings as the environment gives them."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from engine.config import Settings
from engine.domain.action import Policy
from engine.domain.strategy import SQUARE_OFF


def test_the_settings_and_the_domain_agree_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE_SQUARE_OFF", raising=False)
    assert timedelta(minutes=Settings().square_off) == SQUARE_OFF
    assert Settings().policy() == Policy()


def test_a_list_is_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_NO_AUCTION", "BSE, NSE:XYZ,")
    assert Settings().no_auction == {"BSE", "NSE:XYZ"}


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "nan", "1000"])
def test_a_square_off_that_cannot_be_is_refused(minutes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_SQUARE_OFF", minutes)
    with pytest.raises(ValidationError, match="square_off"):
        Settings()

"""Age limits by symbol class."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.age_limits import age_limit_ns, age_limits_ns
from config.schema import SettingsError, load
from kernels.book_image import FeedWriter, format_image, layout
from kernels.row_tally import tally_rows

CLASSES = (("BTCUSDT", 200), ("*USDT", 1_000), ("[!B]*", 60_000))


def test_the_first_class_whose_pattern_matches_holds_and_the_default_where_none_does() -> None:
    names = ["BTCUSDT", "ETHUSDT", "ETHBTC", "BNBBTC", "btcusdt"]
    limits = age_limits_ns(names, 5_000, CLASSES)
    assert limits.tolist() == [200 * 10**6, 10**9, 60 * 10**9, 5 * 10**9, 60 * 10**9]
    assert age_limit_ns("X", 7, ()) == 7 * 10**6
    assert age_limits_ns([], 7, ()).shape == (0,)


def test_a_row_is_judged_by_the_limit_of_its_own_class() -> None:
    image = format_image(bytearray(layout(2, 1, 2).n_bytes), [0, 0], 1, 2)
    writer = FeedWriter(image, 0, 1)
    for row in range(2):
        writer.write_row(row, 1, 1, 2, 1, 1, 1_000)
    limits = age_limits_ns(["BTCUSDT", "ETHUSDT"], 1, CLASSES)
    for now_ns, live in ((200 * 10**6, 2), (200 * 10**6 + 1_001, 1), (10**9 + 1_001, 0)):
        writer.beat(now_ns)
        tally = tally_rows(image, now_ns, limits)
        assert (tally.live, tally.reasons.get("aged", 0)) == (live, 2 - live)


def test_a_class_that_cannot_be_is_an_error_that_names_its_place_and_value(tmp_path: Path) -> None:
    for line, words in (
        ('match = "*USDT"\nage_ms_max = 0', "exchange.age_class[0].age_ms_max is 0; allowed:"),
        ('match = ""\nage_ms_max = 5', "exchange.age_class[0].match is ''; allowed:"),
        ('pattern = "*"\nage_ms_max = 5', "exchange.age_class[0].pattern is no setting; did you mean"),
        ('match = "*"', "exchange.age_class[0].age_ms_max is missing"),
    ):
        path = tmp_path / "settings.toml"
        path.write_text(f"[[exchange.age_class]]\n{line}\n")
        with pytest.raises(SettingsError) as error:
            load(path)
        assert words in str(error.value) or words.replace("; did you mean", "") in str(error.value)
        assert "Remedy" in str(error.value)
    path.write_text('[[exchange.age_class]]\nmatch = "*USDT"\nage_ms_max = 250\n')
    assert load(path).exchange.age_class[0].age_ms_max == 250

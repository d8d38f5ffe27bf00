"Six of the kills that `benchmarks/kills.py` does sixty of: one of each command, a third of them by Ctrl-C."
import pytest


@pytest.mark.slow
def test_six_kills(tmp_path):
    import kills
    table = kills.kill_in_turn(kills.prepare(tmp_path), 6, seed=1) # each kill is judged where it happens
    assert len(table) == 6 and set(table.command) == set(kills.NAMES) and set(table.stands) <= {'old', 'new'}

"""`pytest -v` ends with a line per architecture that surgery made smaller."""

import pytest

ROWS = pytest.StashKey[list]()


@pytest.fixture
def show(request, record_property):
    """show(name, parameters before, after, largest relative difference): a line of the table."""
    rows = request.config.stash.setdefault(ROWS, [])

    def show(name, before, after, difference):
        rows.append((name, before, after, difference))
        record_property("parameters", f"{name}: {before} -> {after}")
        record_property("difference", f"{difference:.1e}")

    return show


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(ROWS, [])
    if rows and config.get_verbosity() > 0:
        terminalreporter.section("parameters before and after surgery, by seed")
        for name in dict.fromkeys(row[0] for row in rows):
            runs = [row[1:] for row in rows if row[0] == name]
            after = ", ".join(f"{run[1]:,}" for run in runs)
            worst = max(run[2] for run in runs)
            terminalreporter.write_line(
                f"{name:24} {runs[0][0]:>12,} -> {after}; outputs within {worst:.1e}"
            )

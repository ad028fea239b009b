"""docs/scale.md: its table is what the script makes."""

from benchmarks import scale


def test_the_table_is_made_by_the_script():
    text = scale.DOCUMENT.read_text(encoding="utf-8")
    assert text.split(scale.BEGIN)[1].split(scale.END)[0].strip() == scale.table(), "python -m benchmarks.scale table"


def test_a_submission_of_many_tasks_can_still_be_written(tmp_path):
    assert scale.seconds_to_write(200, tmp_path) < 1

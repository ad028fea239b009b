"""Losses by position, intervals, costs and pictures."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_helpers import liza
from arc_helpers.liza.measure import DecodeCost


def test_nll_is_the_models_own_loss(make, ids):
    model = make()
    nll = liza.nll_by_position(model, ids, batch=1)
    assert nll.shape == (2, 127)
    with torch.no_grad():
        assert nll.mean() == pytest.approx(liza.inner_model(model)(input_ids=ids, labels=ids).loss.item(), abs=1e-5)


def test_an_interval_by_hand():
    interval = liza.paired_interval([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert interval.mean == 1.0 and interval.n == 3
    assert interval.high - interval.mean == pytest.approx(4.303 / 3**0.5, abs=1e-9)
    assert str(interval) == "+1.0000 [-1.4843, +3.4843] (n = 3)"


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=15))
def test_swapping_the_sides_mirrors_the_interval(pairs):
    a, b = zip(*pairs, strict=True)
    there, back = liza.paired_interval(a, b), liza.paired_interval(b, a)
    assert there.low == pytest.approx(-back.high, abs=1e-9) and there.low <= there.mean <= there.high


@pytest.mark.parametrize("n", [1, 16])
def test_intervals_need_seeds(n):
    with pytest.raises(ValueError, match=rf"^{n} pairs: an interval needs 2 to 15$"):
        liza.paired_interval([0.0] * n, [0.0] * n)


@settings(deadline=None)
@given(trained=st.integers(8, 500), times=st.floats(1.1, 9))
def test_bins_cover_every_position_once(trained, times):
    length = int(trained * times) + 1
    bins = list(liza.position_bins(trained, length).values())
    assert bins[0] == slice(0, trained) and bins[-1].stop == length
    assert all(a.stop == b.start < b.stop for a, b in pairwise(bins))


def test_a_table_leaves_the_model_as_it_was(make, ids):
    model = make()
    table = liza.nll_table(model, ids, 16, 2, weights=(0, 1))
    assert list(table) == ["full", "window", "MaG 0", "MaG 1"] and liza.mag_weight(model) == 0.5
    assert np.array_equal(table["full"], liza.nll_by_position(model, ids))
    assert np.abs(table["window"][:, 32:] - table["full"][:, 32:]).max() > 1e-4
    assert np.allclose(table["window"][:, :15], table["full"][:, :15], atol=1e-5)
    assert list(liza.nll_table(make(), ids, None, 0)) == ["full"]


def test_arms_differ_in_liza_alone(llama, tokenizer, text_file, tmp_path):
    documents = text_file.read_text().splitlines()
    options = {"steps": 3, "batch_size": 2, "max_length": 16, "seed": 5}
    models = {}
    for arm in (liza.CONTROL, "delta_rule"):
        schedule = {} if arm == liza.CONTROL else {"mag_final": 0.4, "transition_step": 2}
        models[arm], tuned = liza.train_arm(arm, llama, tokenizer, documents, tmp_path, **options, **schedule)
        assert len(tuned.losses) == 3 and [w for _, _, w in tuned.mag] == (
            [] if arm == liza.CONTROL else [0.01, 0.4, 0.4]
        )
    assert not list(liza.liza_layers(models[liza.CONTROL])) and liza.is_repaired(models["delta_rule"])


def test_pictures_draw_what_they_are_given():
    costs = [DecodeCost(64, 1.5, 2**20), DecodeCost(256, 2.5, 2**22)]
    picture = liza.plot_cost({"a": costs, "b": costs})
    left, right = picture.axes
    assert list(left.lines[0].get_ydata()) == [1.5, 2.5] and list(right.lines[1].get_ydata()) == [1, 4]
    mag = liza.plot_mag({"arm": [3.0, 2.0]}, {"asked for": [0.01, 0.5], "used": [0.01, 0.5], "late": [0.5, 0.01]})
    assert [line.get_label() for line in mag.axes[1].lines] == ["asked for", "used", "late"]
    nll = liza.plot_nll({"a": np.ones((2, 48)), "a, window": np.ones((2, 48))}, 24, "text")
    solid, dashed = nll.axes[0].lines[:2]
    assert solid.get_color() == dashed.get_color() and dashed.get_linestyle() == "--"
    assert picture.to_png().startswith(b"\x89PNG")


def test_the_librarys_callback_is_late():
    used = liza.library_trace(101, initial_weight=0.01, final_weight=0.5, transition_step=100)
    assert used[0] == 0.5 and used[1] == pytest.approx(0.0149) and used[100] == pytest.approx(0.5)
    assert used[99] == pytest.approx(0.4951)

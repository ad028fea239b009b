"""The batched search finds what a plain depth-first search over uncached forwards finds, and nothing else."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from arc_helpers.lm.grammar import GridGrammar
from arc_helpers.lm.prompt import encode
from arc_helpers.ttt.decode import Generated, generate_with_lora
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.search import answers_with_lora, beam_with_lora, search_with_lora

NAMES = ["a", "b"]
SLOTS = [0, 1] * 3
ROOM = [9, 12, 5, 4, 12, 7]
CLOSING = 2.0


@pytest.fixture
def model(lm) -> MultiLoRAModel:
    """Adapters that differ, and a head that is unsure of the colours but likes to close rows and to end."""
    torch.manual_seed(5)
    model = MultiLoRAModel(lm, NAMES, r=4)
    with torch.no_grad():
        model.B.normal_(std=0.1)
    plain, closing = model.logits, torch.zeros(lm.head.weight.shape[0])
    closing[[lm.prompt_form.row_end, lm.prompt_form.end]] = CLOSING
    model.logits = lambda hidden, slots: plain(hidden, slots) / 2 + closing
    return model


@pytest.fixture
def prompts(lm, tasks) -> list[np.ndarray]:
    """Each task's prompt once for each slot; lengths 32 to 55."""
    return [encode(task.without_answers(), lm.prompt_form).input_ids for task in tasks for _ in NAMES]


@torch.no_grad()
def next_scores(model: MultiLoRAModel, prompt: np.ndarray, slot: int, said: list[int]) -> list[float]:
    """Log-probability of each next token, from one plain forward over everything."""
    ids = torch.from_numpy(np.concatenate([prompt, np.array(said, dtype=np.int64)]))[None]
    logits = model(ids, torch.tensor([slot]))[0, -1]
    grammar = GridGrammar(1, model.lm.prompt_form, len(logits))
    for token in said:
        grammar.push(torch.tensor([token]))
    return logits.masked_fill(~grammar.allowed()[0], -torch.inf).log_softmax(dim=0).tolist()


def depth_first(model, prompt, slot, room, bound, said=(), total=0.0) -> dict[tuple, float]:
    """{answer: log-probability} of all that reach the bound, by recursion."""
    found = {}
    for token, score in enumerate(next_scores(model, prompt, slot, list(said))):
        if total + score < bound:
            continue
        if token == model.lm.prompt_form.end:
            found[said] = total + score
        elif len(said) + 1 < room:
            found |= depth_first(model, prompt, slot, room, bound, (*said, token), total + score)
    return found


def plain_beam(model, prompt, slot, room, width) -> dict[tuple, float]:
    """{answer: log-probability} from the likeliest prefixes of each length, the greedy one always among them."""
    beam, found, greedy = {(): 0.0}, {}, ()
    for length in range(1, room + 1):
        children = {}
        for said, total in beam.items():
            scores = next_scores(model, prompt, slot, list(said))
            children |= {(*said, t): total + score for t, score in enumerate(scores) if math.isfinite(score)}
            if said == greedy:
                best = (*said, int(np.argmax(scores)))
        greedy, end = best, model.lm.prompt_form.end
        kept = sorted(children.items(), key=lambda item: (item[0] == greedy, item[1]), reverse=True)[:width]
        found |= {said[:-1]: total for said, total in kept if said[-1] == end}
        beam = {said: total for said, total in kept if said[-1] != end and length < room}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:width])


def as_dict(answers: list[Generated]) -> dict[tuple, float]:
    assert len({tuple(a.token_ids) for a in answers}) == len(answers)
    return {tuple(a.token_ids): a.logprob for a in answers}


def assert_same(one: dict[tuple, float], other: dict[tuple, float]) -> None:
    assert one.keys() == other.keys()
    np.testing.assert_allclose([one[k] for k in one], [other[k] for k in one], atol=1e-4)


def search(model, prompts, slots=SLOTS, room=ROOM, **options) -> list[list[Generated]]:
    return search_with_lora(model, prompts, slots, room, **{"min_prob": 0.01, **options})


def test_the_same_answers_as_depth_first_search(model, prompts):
    """Rows with different prompts, adapters and room in one batch; beyond the bound there is the greedy answer only."""
    greedy = generate_with_lora(model, prompts, SLOTS, ROOM)
    together = search(model, prompts, max_candidates=1000, max_rows=1000)
    found = 0
    for i, answers in enumerate(together):
        expected = depth_first(model, prompts[i], SLOTS[i], ROOM[i], math.log(0.01))
        found += len(expected)
        likely = [a for a in answers if a.finished and a.logprob >= math.log(0.01)]
        assert_same(as_dict(likely), expected)
        assert all(a.token_ids == greedy[i].token_ids for a in answers if a not in likely)
        assert sum(math.exp(a.logprob) for a in likely) <= 1 + 1e-6
    assert found > 10


def test_greedy_is_always_found(model, prompts):
    """With the room it needs to end, and without; likeliest first."""
    for min_prob in (0.9, 0.01):
        for room in (ROOM, [40] * 6):
            greedy = generate_with_lora(model, prompts, SLOTS, room)
            for one, answers in zip(greedy, search(model, prompts, room=room, min_prob=min_prob), strict=True):
                same = [a for a in answers if a.token_ids == one.token_ids]
                assert len(same) == 1 and same[0].finished == one.finished
                assert same[0].logprob == pytest.approx(one.logprob, abs=1e-4)
                assert all(a.finished for a in answers[:-1])
                assert [a.logprob for a in answers[:-1]] == sorted((a.logprob for a in answers[:-1]), reverse=True)


def test_a_batch_equals_one_at_a_time(model, prompts):
    together = search(model, prompts)
    for i, answers in enumerate(together):
        assert_same(as_dict(answers), as_dict(search(model, prompts[i : i + 1], SLOTS[i : i + 1], ROOM[i : i + 1])[0]))


def test_every_answer_is_a_grid(model, prompts):
    voc = model.lm.prompt_form
    answers = [a for own in search(model, prompts) for a in own if a.finished]
    assert answers and all(voc.answer_grid([*a.token_ids, voc.end]) is not None for a in answers)


def test_max_candidates_keeps_the_likeliest(model, prompts):
    """Ending the search for less likely answers early changes nothing about the best."""
    everything = search(model, prompts, max_candidates=1000)
    assert max(map(len, everything)) > 3
    for few, all_ in zip(search(model, prompts, max_candidates=2), everything, strict=True):
        finished = [a.token_ids for a in all_ if a.finished][:2]
        assert [a.token_ids for a in few][: len(finished)] == finished
        assert len(few) <= 3  # greedy beside them


def test_what_max_rows_cuts_is_counted(model, prompts):
    counts = Counter()
    exact = search(model, prompts, counts=counts)
    assert counts["cut"] == counts["late"] == 0  # 64 rows would be enough for any min_prob above 1 / 64
    narrow = search(model, prompts, max_rows=1, counts=counts)
    assert counts["cut"] > 0
    assert sum(map(len, narrow)) < sum(map(len, exact))


def test_out_of_time_leaves_the_greedy_answers(model, prompts):
    counts = Counter()
    answers = search(model, prompts, max_seconds=0.0, counts=counts)
    assert counts["late"] > 0
    greedy = generate_with_lora(model, prompts, SLOTS, ROOM)
    assert [[a.token_ids for a in own] for own in answers] == [[g.token_ids] for g in greedy]


def test_a_broken_adapter_costs_its_own_rows_only(model, prompts):
    sound = search(model, prompts)
    with torch.no_grad():
        model.B[1] = torch.nan
    broken = search(model, prompts)
    for i, slot in enumerate(SLOTS):
        if slot == 0:
            assert_same(as_dict(broken[i]), as_dict(sound[i]))
        else:
            assert [a.finished for a in broken[i]] == [False]


@pytest.mark.parametrize("width", [2, 4])
def test_beam_against_a_plain_one(model, prompts, width):
    for i, answers in enumerate(beam_with_lora(model, prompts, SLOTS, ROOM, width=width)):
        expected = plain_beam(model, prompts[i], SLOTS[i], ROOM[i], width)
        assert_same(as_dict([a for a in answers if a.finished][:width]), expected)


def test_a_beam_of_one_is_greedy(model, prompts):
    greedy = generate_with_lora(model, prompts, SLOTS, ROOM)
    beams = beam_with_lora(model, prompts, SLOTS, ROOM, width=1)
    assert [own[0].token_ids for own in beams] == [g.token_ids for g in greedy]
    assert all(len(own) == 1 for own in beams)


def test_strategies_by_name(model, prompts):
    asked = (model, prompts, SLOTS, ROOM)
    assert answers_with_lora("greedy", *asked) == [[answer] for answer in generate_with_lora(*asked)]
    assert answers_with_lora("beam", *asked, width=2) == beam_with_lora(*asked, width=2)
    assert answers_with_lora("dfs", *asked, min_prob=0.05) == search(model, prompts, min_prob=0.05)
    with pytest.raises(ValueError, match=r"^strategy = 'best': must be one of greedy, beam, dfs$"):
        answers_with_lora("best", *asked)


@pytest.mark.parametrize("min_prob", [0, 1, -0.1, 17])
def test_min_prob_out_of_range(model, prompts, min_prob):
    with pytest.raises(ValueError, match=rf"^min_prob = {min_prob}: must be above 0 and below 1$"):
        search(model, prompts, min_prob=min_prob)


@pytest.mark.parametrize("name", ["max_rows", "max_candidates"])
def test_limits_below_one(model, prompts, name):
    with pytest.raises(ValueError, match=f"^{name} = 0: must be >= 1$"):
        search(model, prompts, **{name: 0})
    with pytest.raises(ValueError, match=r"^width = 0: must be >= 1$"):
        beam_with_lora(model, prompts, SLOTS, ROOM, width=0)


def test_no_prompts_no_answers(model):
    assert search(model, [], [], []) == []

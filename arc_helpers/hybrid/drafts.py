"""Drafts: what a language model itself answers, view by view. TRM mends them, and says how sure it is."""

from collections.abc import Mapping, Sequence

from arc_helpers.arc import Task, Transform
from arc_helpers.hybrid.questions import Example, Question, leave_one_out, questions_of
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import TaskTooLong
from arc_helpers.runs import NO_DEADLINE, Deadline
from arc_helpers.ttt import Candidate, MultiLoRAModel, TTTSettings, generate_with_lora
from arc_helpers.ttt.pools import questions

#: {(task, number of its test input): answers, each turned back, with the view that it was written in}
Drafts = Mapping[tuple[str, int], Sequence[Candidate]]


def write_drafts(
    lm: LoadedLM,
    tasks: Sequence[Task],
    views: int = 8,
    *,
    rows: int = 32,
    seed: int = 0,
    deadline: Deadline = NO_DEADLINE,
) -> dict[tuple[str, int], list[Candidate]]:
    """The greedy answers of a language model to every test input, in up to `views` views; what is no grid is left out.

    A model that learned these tasks jointly (`ttt.adapt_jointly`) is asked in single pairs, in at most 8 views; any
    other one in context. rows: prompts that are answered at once. deadline: what is not written by then is left out.
    """
    settings = TTTSettings(views=views, form="pairs" if lm.task_tokens else "in_context", seed=seed)
    found: dict[tuple[str, int], list[Candidate]] = {(t.id, i): [] for t in tasks for i in range(len(t.test))}
    jobs = []
    for task in tasks:
        for i in range(len(task.test)):
            room = min(lm.prompt_form.answer_room(task, i), max(1, lm.max_len // 2))
            try:
                jobs += [((task.id, i), room, *asked) for asked in questions(lm, task, i, settings, room)]
            except TaskTooLong:  # a question that the context has no room for has no drafts
                continue
    jobs.sort(key=lambda job: len(job[3].input_ids))  # little padding
    writer = MultiLoRAModel(lm, ["drafts"], mode="head", r=1)  # an adapter of zeros: the model as it is
    was_training = lm.model.training
    lm.model.eval()  # in training a checkpointed model keeps no keys and values
    for first in range(0, len(jobs), rows):
        part = jobs[first : first + rows]
        prompts, rooms = [job[3].input_ids for job in part], [job[1] for job in part]
        answers = generate_with_lora(writer, prompts, [0] * len(part), rooms, deadline=deadline)
        for job, said in zip(part, answers, strict=True):
            grid = lm.prompt_form.answer_grid([*said.token_ids, lm.prompt_form.end]) if said.finished else None
            if grid is not None:
                view: Transform = job[2]
                mean = said.logprob / (len(said.token_ids) + 1)
                found[job[0]].append(Candidate(view.inverse.grid(grid), view.name, mean))
    lm.model.train(was_training)
    return found


def without_last_demonstration(task: Task) -> Task | None:
    """The task asking for its last demonstration, whose answer every solver may see; None where it has just one."""
    return Task(task.id, task.train[:-1], task.train[-1:]) if len(task.train) > 1 else None


def drafted(task: Task, drafts: Drafts) -> list[Question]:
    """Each test input in each view that it was drafted in, with that draft, as it is seen there."""
    return [
        Question(q.task_id, q.index, q.demonstrations, q.input, draft.grid).seen(Transform.from_name(draft.view))
        for q in questions_of(task)
        for draft in drafts[q.task_id, q.index]
    ]


def mending_examples(tasks: Sequence[Task], drafts: Drafts) -> list[Example]:
    """What TRM learns to mend by: demonstrations, each held out from its prompt; nothing of a test pair.

    drafts: of `without_last_demonstration(task)`, by a model that has not learned that demonstration. The others are
    asked, in the same views, without a draft: the model has learned them, and its drafts of them are too good.
    """
    made = []
    for row, task in enumerate(tasks, start=1):
        held_out = without_last_demonstration(task)
        if held_out is None:
            continue
        names = [draft.view for draft in drafts[task.id, 0]]
        last = task.train[-1]
        made += [
            Example(question, Transform.from_name(name).grid(last.output), row)
            for question, name in zip(drafted(held_out, drafts), names, strict=True)
        ]
        others = [*leave_one_out(Question(task.id, 0, task.train, task.test[0].input))][:-1]
        for name in names:
            view = Transform.from_name(name)
            made += [Example(one.question.seen(view), view.grid(one.answer), row) for one in others]
    return made

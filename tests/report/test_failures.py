import math

from hypothesis import given
from hypothesis import strategies as st

from eclipse.report.failures import choose

NAN = math.nan


def _table(**columns):
    size = len(next(iter(columns.values())))
    return {"id": [f"p-{i}" for i in range(size)], "caption": [f"c{i}" for i in range(size)], **columns}


def test_groups_by_what_was_wrong_largest_first_and_by_id():
    table = _table(composition=[0, 1, 0, 0, NAN], colour=[1, 1, 0, 1, 0], shape=[0, 1, 0, 0, 0], spatial=[NAN] * 5)
    chosen = choose(table, split="test_held_out", each=1, pictures=5)
    assert (chosen.judged, chosen.wrong) == (4, 3)
    assert [(g.reason, g.total) for g in chosen.groups] == [("shape", 2), ("colour + shape", 1)]
    assert [f.id for f in chosen.groups[0].shown] == ["p-0"]
    assert "first 1 of each group by id" in chosen.rule


def test_only_prompts_with_a_kept_picture_are_shown_but_all_are_counted():
    chosen = choose(_table(composition=[1, 0, 0], colour=[1, 0, 0]), split="s", each=5, pictures=2)
    assert chosen.groups[0].total == 2 and [f.index for f in chosen.groups[0].shown] == [1]


def test_without_an_oracle_retrieval_judges_and_binding_is_a_reason():
    chosen = choose(_table(r1_all=[0, 0, 1], binding=[0, NAN, 1]), split="s", each=5, pictures=0)
    assert chosen.judge == "r1_all" and {g.reason for g in chosen.groups} == {"binding", "retrieval"}
    assert sum(len(g.shown) for g in chosen.groups) == 2


def test_no_judge_no_section():
    assert choose(_table(cosine=[0.9], composition=[NAN]), split="s", each=1, pictures=0) is None


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_every_wrong_prompt_is_in_exactly_one_group(rows):
    table = _table(
        composition=[r[0] for r in rows], colour=[float(r[1]) for r in rows], shape=[float(r[2]) for r in rows]
    )
    chosen = choose(table, split="s", each=99, pictures=0)
    shown = [] if chosen is None else [f.index for g in chosen.groups for f in g.shown]
    assert sorted(shown) == [i for i, r in enumerate(rows) if r[0] == 0]

# SPDX-License-Identifier: Apache-2.0
"""Orders of trying candidates, compared on what they would have found: every candidate's score is known.

MetaSchedule's evolutionary search draws one decision for each tile parameter, as records of the database do
(`bnncc.tuning.database`), and notes them on a block that computes nothing, as it drops what nobody uses. A
draw that is no candidate counts by itself: it would be refused without being measured.
"""

from __future__ import annotations

import math
import random
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from bnncc.kernels.kernel import TileParameters
from bnncc.tuning.search import Search
from bnncc.tuning.tuner import BATCH

STARTS = 18
MOST_DRAWS = 1000


def orders(
    choices: Sequence[TileParameters], scores: Mapping[int, float], close: float
) -> dict[str, list[int]]:
    """By the name of each order, how many trials it took from a bad start until one was so close to the best
    (times the best's score)."""
    wanted = close * min(scores.values())
    bad = sorted(scores, key=lambda i: -scores[i])[: STARTS // 2]
    found: dict[str, list[int]] = {
        "ours": [],
        "any": [],
        "MetaSchedule": [],
        "MetaSchedule, with refused": [],
    }
    for seed in range(STARTS):
        start = bad[seed % len(bad)]
        others = [i for i in range(len(choices)) if i != start]
        random.Random(seed).shuffle(others)
        order = [start, *others]
        found["ours"].append(_ours(choices, scores, wanted, order, seed))
        found["any"].append(1 + next(n for n, i in enumerate(order) if scores.get(i, math.inf) <= wanted))
        trials, refused = evolution(choices, scores, wanted, seed)
        found["MetaSchedule"].append(trials)
        found["MetaSchedule, with refused"].append(trials + refused)
    return found


def _ours(
    choices: Sequence[TileParameters],
    scores: Mapping[int, float],
    wanted: float,
    order: Sequence[int],
    seed: int,
) -> int:
    search, known = Search([choices[i] for i in order], seed), {}
    while True:
        for position in search.propose(BATCH, known):
            known[position] = scores.get(order[position], math.inf)
            if known[position] <= wanted:
                return len(known)


def evolution(
    choices: Sequence[TileParameters], scores: Mapping[int, float], wanted: float, seed: int
) -> tuple[int, int]:
    """How many trials MetaSchedule's evolutionary search took, and how many draws that were no candidates."""
    # TVM imports scripts for GPUs with this module, for 20 seconds.
    sys.modules.setdefault("tvm.s_tir.tensor_intrin", types.ModuleType("tensor_intrin"))
    import tvm
    from tvm import tirx
    from tvm.ir.utils import derived_object
    from tvm.s_tir import Schedule
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.stmt import SBlock, SBlockRealize

    names = sorted({name for choice in choices for name in choice})
    values = {name: sorted({choice.get(name, 0) for choice in choices}) for name in names}
    known = {tuple(choice.get(name, 0) for name in names): i for i, choice in enumerate(choices)}
    rng = random.Random(seed)

    @derived_object
    class Redraw(ms.mutator.PyMutator):
        """Another value for one parameter."""

        def _initialize_with_tune_context(self, context: object) -> None:
            pass

        def apply(self, trace, _):
            instruction = rng.choice(list(trace.decisions))
            return trace.with_decision(instruction, rng.randrange(len(instruction.attrs[0])), True)

        def clone(self):
            return Redraw()

    def space(schedule: Schedule) -> list[Schedule]:
        block = schedule.get_sblock("layer")
        for name in names:
            count = len(values[name])
            drawn = schedule.sample_categorical(values[name], [1.0 / count] * count)
            schedule.annotate(block, f"bnncc.{name}", drawn)
        return [schedule]

    def candidate(trace) -> int | None:
        drawn = (int(i.attrs[0][int(trace.decisions[i])]) for i in trace.insts if i in trace.decisions)
        return known.get(tuple(drawn))

    mutators: Any = {Redraw(): 1.0}
    always = tirx.const(1, "bool")
    layer = SBlockRealize([], always, SBlock([], [], [], "layer", tirx.Evaluate(tirx.const(0))))
    root = SBlockRealize([], always, SBlock([], [], [], "root", layer))
    attributes = {"global_symbol": "main", "s_tir": True}
    module = tvm.IRModule({"main": tirx.PrimFunc([], root).with_attr(attributes)})
    database = ms.database.MemoryDatabase()
    context = ms.TuneContext(
        mod=module,
        target=tvm.target.Target({"kind": "llvm", "num-cores": 1}),
        space_generator=ms.space_generator.ScheduleFn(
            space, sch_rules=[], postprocs=[], mutator_probs=mutators
        ),
        search_strategy=ms.search_strategy.EvolutionarySearch(
            population_size=64,
            genetic_num_iters=2,
            init_min_unmeasured=8,
            max_fail_count=20,
            init_measured_ratio=0.5,
        ),
        num_threads=1,
        rand_state=seed + 1,
    )
    context.pre_tuning(
        MOST_DRAWS, BATCH, database=database, cost_model=ms.cost_model.CostModel.create("random")
    )
    workload = database.commit_workload(module)
    trials = refused = 0
    while (drawn := context.generate_measure_candidates()) and trials + refused < MOST_DRAWS:
        results = []
        for one in drawn:
            trace: Any = one.sch.trace
            which = candidate(trace)
            score = scores.get(which, 1e10) if which is not None else 1e10
            trials, refused = trials + (which is not None), refused + (which is None)
            if score <= wanted:
                return trials, refused
            results.append(ms.runner.RunnerResult([score], None))
            record = ms.database.TuningRecord(trace, workload, [score], context.target, one.args_info)
            database.commit_tuning_record(record)
        context.notify_runner_results(drawn, results)
    return trials, refused

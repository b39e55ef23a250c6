"""``menura irl predict``: what a saved estimate makes people do, and what they would do if something changed."""

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from menura.commands.arguments import print_json
from menura.commands.irl.fit import parse_theta
from menura.core import RequestError

PREDICTION_FILE = "prediction.json"
"""The file by which the folder of a prediction is known."""

LARGEST_JSON, LARGEST_CSV = 100_000, 5_000_000
"""Tables of more rows are left out of what is printed, and of what is written."""


@dataclass(frozen=True)
class PredictArguments:
    """Choice probabilities, flows, routes and counterfactuals of a saved estimate."""

    estimate: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder that `menura irl mce|maxent --out DIR` wrote."""
    at: str | None = None
    """What if: with this θ instead, numbers separated by commas."""
    mdp: Path | None = None
    """What if: on this problem instead, which has the same feature names."""
    remove: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What if: without the action state,action, or without one of its outcomes state,action,next_state. May be
    repeated; or the name of a CSV file with these columns."""
    start: str | None = None
    """Where paths begin, states separated by commas; by default where the demonstrations did, or the problem's initial
    distribution."""
    goal: str | None = None
    """What they are meant for: one state, or one for each start; by default the demonstrations' goals."""
    routes: int = 0
    """Sample so many routes."""
    seed: int = 0
    """Seed of the sampled routes."""
    max_steps: int | None = None
    """Cut sampled routes after so many steps: by default 1000 where a discount lets them go on forever."""
    top: int = 10
    """How many transitions the summary lists."""
    out: Path | None = None
    """Write choices.csv, flows.csv, prediction.npz, and with --routes routes.csv and routes.npz, into this folder."""
    json: bool = False
    """Print one JSON object and nothing else."""


def predict(arguments: PredictArguments) -> None:
    """Predict with a saved estimate."""
    if arguments.routes < 0 or arguments.top < 0 or arguments.seed < 0:
        raise RequestError("--routes, --top and --seed must be 0 or more.")
    if arguments.max_steps is not None and arguments.max_steps < 1:
        raise RequestError(f"--max-steps is {arguments.max_steps}; make it 1 or more.")
    if arguments.out is not None:
        from menura.irl.folders import check_folder

        check_folder(arguments.out, PREDICTION_FILE)
    try:
        _predict(arguments)
    except MemoryError as error:
        raise RequestError(f"This problem does not fit into memory ({error}); make it smaller.") from error


def _predict(arguments: PredictArguments) -> None:
    from menura.irl import predict as irl
    from menura.irl.estimate import load_estimate

    said, theta, mdp, paths = load_estimate(arguments.estimate, pair=_pair(arguments))
    method = said["method"]
    warnings = []
    if said.get("forward_pass") == "printed":
        warnings.append("θ was fitted with the printed forward pass; what is predicted here is exact, and differs.")
    demand = _demand(arguments, mdp, paths)
    before = irl.predict(mdp, theta, demand, method=method)
    after, changes = None, []
    if arguments.at is not None or arguments.mdp is not None or arguments.remove:
        new_mdp, new_theta, changes = _changed(arguments, mdp, theta)
        new_demand = demand
        if arguments.mdp is not None and arguments.start is None and demand.goals is None:
            # The other problem's own initial distribution counts, where it has one.
            new_demand = demand if new_mdp.initial is None else irl.Demand.of(new_mdp, paths)
        after = irl.predict(new_mdp, new_theta, new_demand, method=method)
    shown = before if after is None else after
    routes = (
        shown.sample(arguments.routes, seed=arguments.seed, max_steps=arguments.max_steps) if arguments.routes else None
    )
    flows, choices, note = _tables(before, after, LARGEST_CSV if arguments.out is not None else LARGEST_JSON)
    warnings += note
    summary: dict[str, Any] = {
        "method": method,
        "theta": dict(zip(shown.mdp.feature_names, shown.theta.tolist(), strict=True)),
        "counterfactual": changes,
        **_figures(shown),
    }
    if after is not None:
        summary["before"] = {
            "theta": dict(zip(mdp.feature_names, theta.tolist(), strict=True)),
            **_figures(before),
        }
    summary["most_changed" if after is not None else "largest_flows"] = _rows(
        flows, _order(flows, after is not None)[: arguments.top]
    )
    if routes is not None:
        summary["routes"] = {"number": routes.num_paths, "mean_steps": float(routes.lengths.mean())}
    summary["warnings"] = warnings
    if arguments.out is not None:
        try:
            _write(arguments.out, summary, flows, choices, routes)
        except OSError as error:
            raise RequestError(f"--out {arguments.out} cannot be written: {error}.") from error
    for sentence in warnings:
        print(f"menura: warning: {sentence}", file=sys.stderr)
    if not arguments.json:
        print(_text(summary, shown, before if after is not None else None))
        return
    for name, table in (("flows", flows), ("choices", choices)):
        summary[name] = None
        if table is not None and len(table) <= LARGEST_JSON:
            summary[name] = {key: column.tolist() for key, column in table.columns().items()}
    if routes is not None:
        summary["routes"].update(_route_lists(routes))
    print_json(summary)


def _pair(arguments: PredictArguments) -> tuple[int, int | None] | None:
    """The one origin and destination that was asked for, if it is one."""
    starts, goals = parse_states(arguments.start, "--start"), parse_states(arguments.goal, "--goal")
    if starts is None or len(starts) != 1 or (goals is not None and len(goals) != 1):
        return None
    return starts[0], None if goals is None else goals[0]


def _demand(arguments: PredictArguments, mdp: Any, paths: Any) -> Any:
    import numpy as np

    from menura.irl.predict import Demand

    starts, goals = parse_states(arguments.start, "--start"), parse_states(arguments.goal, "--goal")
    if starts is not None and (goals is not None or paths.goals is None):
        return Demand.between(starts, goals)
    demand = Demand.of(mdp, paths)
    wanted = goals if starts is None else starts
    if wanted is not None and demand.goals is not None:
        # The demonstrations' own pairs, as far as one end of them was chosen.
        column = demand.goals if starts is None else demand.states
        kept = np.isin(column, wanted)
        missing = sorted(set(wanted) - set(column[kept].tolist()))
        if missing:
            verb, other = ("begins in", "--goal") if starts is not None else ("is meant for", "--start")
            raise RequestError(f"No demonstration {verb} state {missing[0]}; give {other} too.")
        return Demand(demand.states[kept], demand.weights[kept] / demand.weights[kept].sum(), demand.goals[kept])
    if goals is not None:
        if len(goals) > 1:
            raise RequestError("Several goals need --start, one for each of them or one for all.")
        return Demand(demand.states, demand.weights, np.full(len(demand.states), goals[0]))
    return demand


def _changed(arguments: PredictArguments, mdp: Any, theta: Any) -> tuple[Any, Any, list[str]]:
    """The problem and θ of the counterfactual, and what is different, in words."""
    import numpy as np

    from menura.environments.tabular import TabularMDP
    from menura.irl.predict import remove_transitions

    changes, names = [], mdp.feature_names
    if arguments.mdp is not None:
        mdp = TabularMDP.load(arguments.mdp)
        if set(mdp.feature_names) != set(names):
            odd = sorted(set(mdp.feature_names) ^ set(names))[0]
            where = f"not in {arguments.mdp}" if odd in names else f"in {arguments.mdp} only"
            raise RequestError(f"The feature {odd!r} is {where}; the other problem needs the estimate's feature names.")
        changes.append(f"the problem {arguments.mdp}")
        theta = theta[[names.index(name) for name in mdp.feature_names]]
    if arguments.at is not None:
        theta = parse_theta(arguments.at, "--at")
        if len(theta) != len(names):
            raise RequestError(f"--at has {len(theta)} weights for {len(names)} features; give one a feature.")
        # Weights are given in the estimate's order.
        theta = np.asarray(theta)[[names.index(name) for name in mdp.feature_names]]
        changes.append(f"θ = {arguments.at}")
    if arguments.remove:
        removed = [row for item in arguments.remove for row in parse_removal(item)]
        mdp = remove_transitions(mdp, removed)
        changes.append(f"{len(removed)} removed: " + "; ".join(",".join(map(str, row)) for row in removed[:5]))
    return mdp, theta, changes


def parse_states(text: str | None, option: str) -> list[int] | None:
    """States separated by commas."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RequestError(f"{option} {text} must be states separated by commas.") from error


def parse_removal(text: str) -> list[tuple[int, ...]]:
    """``state,action[,next_state]``, or the rows of a CSV file with these columns."""
    if not text.endswith(".csv"):
        try:
            row = tuple(int(part) for part in text.split(","))
        except ValueError:
            row = ()
        if len(row) not in (2, 3):
            raise RequestError(f"--remove {text} must be state,action or state,action,next_state, or a CSV file.")
        return [row]
    try:
        with open(text, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            if names not in (["state", "action"], ["state", "action", "next_state"]):
                raise RequestError(f"{text} must have the columns state, action[, next_state], in this order.")
            rows = [tuple(int(cell) for cell in row.values() if cell and cell.strip()) for row in reader]
        bad = [i for i, row in enumerate(rows) if len(row) not in (2, 3)]
        if bad:
            raise RequestError(
                f"{text}: row {bad[0]} below the header must be state,action or state,action,next_state."
            )
        return rows
    except FileNotFoundError as error:
        raise RequestError(f"There is no file {text}.") from error
    except (OSError, csv.Error, ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"{text} cannot be read as rows of whole numbers: {error}.") from error


def _tables(before: Any, after: Any, largest: int) -> tuple[Any, Any, list[str]]:
    """Flows and choices, before and after side by side; choices ``None`` where these are too many."""
    from menura.irl.predict import choice_rows, choice_table, flow_table, join

    flows = flow_table(before) if after is None else join(flow_table(before), flow_table(after))
    shown = before if after is None else after
    rows = max(choice_rows(before), choice_rows(shown))
    if rows > largest:
        how = "choose some with --start and --goal" if largest == LARGEST_CSV else "--out writes them"
        return flows, None, [f"The choice probabilities have {rows} rows and are left out; {how}."]
    choices = choice_table(shown)
    if after is not None:
        earlier = choice_table(before)
        if earlier.keys.keys() != choices.keys.keys():
            return flows, choices, ["Only one of the problems has a horizon, so choices are those after the change."]
        choices = join(earlier, choices)
    return flows, choices, []


def _figures(prediction: Any) -> dict[str, Any]:
    from menura.irl.predict import expected_features

    return {
        "expected_steps": prediction.steps,
        "expected_features": expected_features(prediction),
        "expected_value": prediction.value,
    }


def _order(flows: Any, changed: bool) -> Any:
    import numpy as np

    size = flows.values["flow"]
    if changed:
        size = np.abs(size - flows.values["flow_before"])
    return np.argsort(-size, kind="stable")


def _rows(table: Any, rows: Any) -> list[dict[str, Any]]:
    columns = {name: column[rows].tolist() for name, column in table.columns().items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _route_lists(routes: Any) -> dict[str, Any]:
    ends = (routes.first + routes.lengths).tolist()
    parts = list(zip(routes.first.tolist(), ends, strict=True))
    lists = {
        "states": [
            [*routes.states[a:b].tolist(), int(end)] for (a, b), end in zip(parts, routes.final_states, strict=True)
        ],
        "actions": [routes.actions[a:b].tolist() for a, b in parts],
    }
    if routes.goals is not None:
        lists["goals"] = routes.goals.tolist()
    return lists


def _write(folder: Path, summary: dict[str, Any], flows: Any, choices: Any, routes: Any) -> None:
    import numpy as np

    from menura.irl.folders import replace_folder
    from menura.run.artifacts import finite

    own = ("choices.csv", "routes.csv", "routes.npz")
    with replace_folder(folder, PREDICTION_FILE, own) as place:
        text = json.dumps(finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
        (place / PREDICTION_FILE).write_text(text + "\n", encoding="utf-8")
        arrays = {}
        for name, table in (("flows", flows), ("choices", choices)):
            if table is not None:
                _write_csv(place / f"{name}.csv", table.columns())
                arrays.update({f"{name}_{key}": column for key, column in table.columns().items()})
        np.savez_compressed(place / "prediction.npz", **arrays)
        if routes is not None:
            routes.save(place / "routes.npz")
            columns = {
                "individual": routes.path_of_step,
                "time": routes.time,
                "state": routes.states,
                "action": routes.actions,
            }
            if routes.goals is not None:
                columns["goal"] = routes.goals[routes.path_of_step]
            _write_csv(place / "routes.csv", columns)


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    """One row a row of the columns; what is not a number stays empty."""

    def cells(column: Any) -> Iterable[Any]:
        return ["" if value != value else value for value in column.tolist()]

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(cells, columns.values()), strict=True))


def _text(summary: dict[str, Any], shown: Any, before: Any) -> str:
    """The summary for people."""
    lines = []
    if before is not None:
        lines.append("What if: " + "; ".join(summary["counterfactual"]))
    discounted = " (discounted)" if shown.mdp.discount < 1 else ""
    head = ["before", "after"] if before is not None else ["expected"]
    figures = [summary["before"], summary] if before is not None else [summary]
    rows = [(f"steps of a path{discounted}", [f["expected_steps"] for f in figures])]
    rows.append(("value of a start", [f["expected_value"] for f in figures]))
    rows += [(name, [f["expected_features"][name] for f in figures]) for name in shown.mdp.feature_names[:30]]
    width = max(24, *(len(name) for name, _ in rows))
    lines.append(f"{'':{width}} " + " ".join(f"{name:>12}" for name in head))
    lines += [f"{name:{width}} " + " ".join(f"{value:12.6g}" for value in values) for name, values in rows]
    flows = summary["most_changed" if before is not None else "largest_flows"]
    if flows:
        names = list(flows[0])
        lines += ["", "Flows that change most:" if before is not None else "Largest flows:"]
        lines.append(" ".join(f"{name:>11}" for name in names))
        lines += [" ".join(f"{row[name]:11.6g}" for name in names) for row in flows]
    if "routes" in summary:
        lines += [
            "",
            f"{summary['routes']['number']} routes of {summary['routes']['mean_steps']:.6g} steps on average "
            "(--out or --json gives them).",
        ]
    return "\n".join(lines)

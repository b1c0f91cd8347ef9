"""What each verb of the command line does: take parsed options, return what is to be printed and the exit status."""

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pim.errors import StudyError


def run(options: Namespace) -> int:
    """Run a study and write its files."""
    from pim.report import write_report
    from pim.study import Study
    from pim.study_file import load_study, study_of
    from pim.study_run import run_study
    from pim.summary import summary
    from pim.table import result_table

    study = load_study(options.study) if options.study else Study()
    keys = (
        "model",
        "text",
        "calibration",
        "system",
        "tokens",
        "chips",
        "seed",
        "context",
        "stride",
        "time",
        "out",
        "resume",
        "sweep",
    )
    given: dict[str, Any] = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    given |= {key: dict(given[key]) for key in ("sweep",) if key in given}
    study = study_of({**given, "set": {**study.set, **dict(options.set)}}, base=study)
    result = run_study(study, progress=not options.quiet)
    files = write_report(result, Path(study.out))
    if options.json:
        return _print_json({**summary(result), "files": [str(file) for file in files]})
    print(result_table(result))
    print("\nfiles:", ", ".join(str(file) for file in files))
    return 0


def task(options: Namespace) -> int:
    """Ask a model on a system what a task's file asks."""
    from pim.task_study import TaskStudy, run_task_study

    keys = ("model", "system", "calibration", "limit", "chips", "seed", "context", "time")
    given = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    study = TaskStudy(options.kind, options.file, set=dict(options.set), **given)
    found = run_task_study(study, progress=not options.quiet)
    return _print_json(found.to_dict()) if options.json else _print(str(found))


def generate(options: Namespace) -> int:
    """Continue a prompt with the exact model and with emulated chips, side by side."""
    from shutil import get_terminal_size

    from pim.calibration import calibrate
    from pim.generation import generate, prepare
    from pim.llm_workloads.model import load_model
    from pim.mapping.plan import place
    from pim.plan_checks import needs_ranges
    from pim.study import Study, find_system
    from pim.study_text import calibration_text

    keys = ("tokens", "chips", "temperature", "top_k", "top_p")
    given: dict[str, Any] = {key: getattr(options, key) for key in keys}
    study = Study(model=options.model, system=options.system, calibration=options.calibration)
    plan = place(load_model(study.model), find_system(study.system).replace(dict(options.set)))
    assert plan.model is not None
    prepare(plan.model, options.prompt, **given)  # before ranges are looked for, which takes longer
    if needs_ranges(plan) or study.calibration is not None:
        plan = calibrate(plan, calibration_text(study, plan.model)[0], context=study.context)
    written = generate(plan, options.prompt, seed=options.seed, time=options.time, **given)
    return _print_json(written.to_dict()) if options.json else _print(written.shown(get_terminal_size().columns))


def presets(options: Namespace) -> int:
    """List the presets, or show one with all its values."""
    from pim.describe import device_dict, device_text
    from pim.devices.catalogue import presets
    from pim.study import find_device

    if options.name is None:
        if options.plot is not None:
            raise StudyError("name the preset to draw: pim presets NAME --plot")
        table = presets()
        return _print_json([asdict(row) for row in table]) if options.json else _print(str(table))
    device = find_device(options.name)
    if options.plot is not None:
        from pim.device_plot import save_device_figure

        file = save_device_figure(device, options.plot or Path(f"{device.name}.png"))
        return _print_json({"file": str(file)}) if options.json else _print(f"picture: {file}")
    return _print_json(device_dict(device)) if options.json else _print(device_text(device))


def explain(options: Namespace) -> int:
    """Say what a value of a device means and where it comes from."""
    from pim.describe import explain, row_text
    from pim.study import find_device

    name, field = _device_and_field(options.name)
    device = find_device(name)
    rows = explain(device, field)
    if options.json:
        return _print_json(rows[0] if rows[0]["field"] == field else rows)
    return _print("\n\n".join(row_text(device, row) for row in rows))


def _device_and_field(name: str) -> tuple[str, str]:
    """`rram-techC.adc.bits` and `cells/mine.toml.adc.bits` in two."""
    file, found, field = name.partition(".toml.")
    if found:
        return f"{file}.toml", field
    device, _, field = name.partition(".")
    if not field:
        raise StudyError(
            f"{name!r} names no field: give NAME.FIELD, such as rram-techC.adc.bits (see pim presets NAME)"
        )
    return device, field


def cost(options: Namespace) -> int:
    """Price a product on a device, or a model on a system."""
    from pim.costs.costing import cost
    from pim.costs.elasticities import sensitivity
    from pim.devices.device import replace
    from pim.study import find_device

    changes = dict(options.set)
    if options.model is not None:
        if options.device is not None:
            raise StudyError("give a device with a shape, or --model with --system, not both")
        if options.operation != "gemv" or options.copies != 1:
            raise StudyError("--operation and --copies are for a device with a shape: a model has its own")
        found = _model_cost(options, changes)
    elif options.device is None or options.n_in is None or options.n_out is None:
        raise StudyError("give a device and the shape of a matrix (pim cost rram-techC 128 128), or --model")
    else:
        device = replace(find_device(options.device), changes)
        shape = (options.n_in, options.n_out)
        found = cost(
            device,
            shape,
            vectors=options.vectors,
            operation=options.operation,
            copies=options.copies,
            weights=options.weights,
        )
    told = sensitivity(found, options.sensitivity) if options.sensitivity is not None else None
    if options.json:
        return _print_json({**found.to_dict(), **({} if told is None else {"sensitivity": told.to_dict()})})
    return _print(str(found) if told is None else f"{found}\n\n{told}")


def _model_cost(options: Namespace, changes: dict[str, Any]) -> Any:
    """What a model costs on a system, or on several."""
    from pim.costs.comparison import compare
    from pim.costs.costing import cost
    from pim.llm_workloads.known_shapes import known_shapes
    from pim.mapping.plan import place
    from pim.study import find_system

    config, systems = _config(options.model), (options.system or "rram-techC").split(",")
    if len(systems) > 1:
        if options.context is not None or options.weights != "resident" or options.sensitivity is not None:
            raise StudyError("several systems are compared half-way through a run: leave other options away")
        on = [find_system(system).replace(changes) for system in systems]
        model = options.model if options.model in known_shapes() else config
        return compare(model, on, batch=options.batch, prompt=options.prompt, generate=options.generate)
    plan = place(config, find_system(systems[0]).replace(changes))
    if options.context is not None:
        return cost(plan, batch=options.batch, context=options.context)
    return cost(plan, batch=options.batch, prompt=options.prompt, generate=options.generate, weights=options.weights)


def _config(model: str) -> Any:
    """The shapes of a model; they need no weights."""
    from pim.llm_workloads.checkpoint import load_config
    from pim.llm_workloads.known_shapes import known_shape, known_shapes
    from pim.llm_workloads.model import find_model

    if model in known_shapes():
        return known_shape(model)
    return load_config(find_model(model, weights=False)[0])


def fit(options: Namespace) -> int:
    """Fit a table of measurements and write the device, the figures and the numbers."""
    from pim.fitted import fit

    found = fit(options.table, options.what, importer=options.importer, seed=options.seed, progress=not options.quiet)
    files = found.save(options.out)
    if options.json:
        return _print_json({**found.to_dict(), "files": [str(file) for file in files]})
    return _print(f"{found}\n\nfiles: {', '.join(str(file) for file in files)}")


def validate(options: Namespace) -> int:
    """Hold the cost model against published chips; if `strict`, status 1 for what is missed without a word."""
    from pim.silicon.validation import validate

    found = validate(options.names or None)
    _print_json(found.to_dict()) if options.json else _print(str(found))
    return 1 if options.strict and found.unexplained else 0


def doctor(options: Namespace) -> int:
    """Examine this installation; status 1 if its results cannot be believed."""
    from pim.health import doctor

    report = doctor()
    print(report.to_json() if options.json else "\n".join(report.lines))
    return 0 if report.ok else 1


def _print(text: str) -> int:
    print(text)
    return 0


def _print_json(value: Any) -> int:
    return _print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))

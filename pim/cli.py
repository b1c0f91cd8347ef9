"""The command line: verbs and options, and errors as one line each.

Standard output holds the answer alone, progress and warnings go to standard error. Exit status: 0 done, 1 the doctor
found something, 2 bad input, 130 interrupted.
"""

import argparse
import os
import sys
import tomllib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pim import verbs
from pim._version import __version__
from pim.devices.errors import DeviceError
from pim.errors import StudyError
from pim.llm_workloads.errors import WorkloadError
from pim.mapping.errors import MappingError

BAD_INPUT = (StudyError, DeviceError, WorkloadError, MappingError)
DESCRIPTION = "What would this chip do to a language model, and what would it cost?"
EXAMPLES = """examples:
  pim run                                        the shipped model on a measured ReRAM cell
  pim run --model DIR --text FILE                any Hugging Face folder of a known family
  pim run --system rram-wan2022 --set weights.rows=128 --sweep weights.adc.bits=5,6,7
  pim task last-word lambada.jsonl --model DIR   last words, choices, similar sentences
  pim generate "Once upon a time"                the text of the digital model and of a chip, side by side
  pim presets rram-techC                         every value of a device, with its source
  pim presets rram-techC --plot                  its spread, its course with time, its tails
  pim explain rram-techC.adc.bits
  pim fit cells.csv --out cells                  your own measurements as a device
  pim cost rram-techC 4096 4096 --vectors 16
  pim cost dram-aim 128 2048 --operation score --copies 32
  pim cost --model llama-2-70b --system dgx-a100 --batch 32 --context 2048
  pim validate tu2022                            our figures of a published chip against its own"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if options.verb is None:
            parser.print_help()
            return 0
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = options.verb(options)
            sys.stdout.flush()
            return status
    except BAD_INPUT as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    print(f"pim: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"pim: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help may end in what is only looked up when it is asked for."""

    more: Callable[[], str] | None = None

    def format_help(self) -> str:
        """The help, with the rest of it."""
        return super().format_help() + (f"\n{self.more()}\n" if self.more else "")

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with status 2."""
        self.exit(2, f"pim: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pim", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pim {__version__}")
    parser.set_defaults(verb=None)
    add = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=_Parser).add_parser

    run = add("run", help="accuracy and cost of a model on a system, over a sweep: table, figures, files")
    run.add_argument("study", nargs="?", metavar="STUDY.toml", help="a study; options go over what it says")
    run.add_argument("--model", help="a shipped model, or a Hugging Face folder (default: tiny-stories)")
    run.add_argument("--text", metavar="FILE", help="text to score; <|endoftext|> separates documents")
    run.add_argument("--calibration", metavar="FILE", help="text for converter ranges (default: a part of --text)")
    run.add_argument("--system", metavar="NAME", help="a preset or device file, beside a digital unit (rram-techC)")
    run.add_argument("--sweep", type=_sweep, action="append", metavar="PATH=V,V,...", help="values to try")
    run.add_argument("--tokens", type=int, metavar="N", help="most tokens to score (2048)")
    run.add_argument("--chips", type=int, metavar="N", help="instances of the hardware (4)")
    run.add_argument("--seed", type=int, metavar="N", help="of chips and reads (0)")
    run.add_argument("--context", type=int, metavar="N", help="most tokens of a sequence (256)")
    run.add_argument("--stride", type=int, metavar="N", help="tokens from one window to the next, where they overlap")
    run.add_argument("--time", type=float, metavar="S", help="seconds since programming (the device's own)")
    run.add_argument("--out", metavar="DIR", help="folder for result.nc, result.json and report.html (out)")
    run.add_argument(
        "--resume", metavar="DIR", help="keep what is done in a folder, and go on from there; layer by layer"
    )
    run.add_argument("--quiet", action="store_true", help="no progress")
    _finish(run, verbs.run, settable=True)

    task = add("task", help="what a model on a system makes of a task: last words, choices, similar sentences")
    task.add_argument("kind", choices=("last-word", "multiple-choice", "similarity"), help="what is asked")
    task.add_argument(
        "file", metavar="FILE", help="JSON lines (LAMBADA's or PIQA's keys, or context, choices, label) or CSV"
    )
    task.add_argument("--model", help="a shipped model, or a Hugging Face folder (default: tiny-stories)")
    task.add_argument("--system", metavar="NAME", help="a preset or device file, beside a digital unit (rram-techC)")
    task.add_argument("--calibration", metavar="FILE", help="text for converter ranges (default: items behind --limit)")
    task.add_argument("--limit", type=int, metavar="N", help="most items (all)")
    task.add_argument("--chips", type=int, metavar="N", help="instances of the hardware (4)")
    task.add_argument("--seed", type=int, metavar="N", help="of chips and reads (0)")
    task.add_argument("--context", type=int, metavar="N", help="most tokens of a sequence (the model's)")
    task.add_argument("--time", type=float, metavar="S", help="seconds since programming (the device's own)")
    task.add_argument("--quiet", action="store_true", help="no progress")
    _finish(task, verbs.task, settable=True)

    generate = add("generate", help="what the digital model and emulated chips write, side by side")
    generate.add_argument("prompt", metavar="PROMPT", help="the text to continue")
    generate.add_argument("--model", default="tiny-stories", help="a shipped model, or a folder (tiny-stories)")
    generate.add_argument("--system", default="rram-techC", metavar="NAME", help="a preset or device file (rram-techC)")
    generate.add_argument(
        "--calibration", metavar="FILE", help="text for converter ranges (the shipped model's: stories)"
    )
    generate.add_argument("--tokens", type=int, default=100, metavar="N", help="most tokens to write (100)")
    generate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest token (0)")
    generate.add_argument("--top-k", type=int, metavar="N", help="choose among so many likeliest tokens (all)")
    generate.add_argument("--top-p", type=float, metavar="P", help="choose among the likeliest of this probability (1)")
    generate.add_argument("--chips", type=int, default=1, metavar="N", help="instances of the hardware (1)")
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="of chips, reads and choices (0)")
    generate.add_argument("--time", type=float, metavar="S", help="seconds since programming (the device's own)")
    _finish(generate, verbs.generate, settable=True)

    presets = add("presets", help="the devices that come with the package, or all values of one")
    presets.add_argument("name", nargs="?", metavar="NAME", help="a preset or a device file")
    presets.add_argument(
        "--plot", nargs="?", const="", type=_file, metavar="FILE", help="draw its cell (NAME.png, or FILE)"
    )
    _finish(presets, verbs.presets)

    explain = add("explain", help="what a value of a device means, and where it comes from")
    explain.add_argument("name", metavar="NAME.FIELD", help="such as rram-techC.adc.bits, or rram-techC.adc")
    _finish(explain, verbs.explain)

    cost = add("cost", help="energy, latency and area of a product on a device, or of a model on a system")
    cost.add_argument("device", nargs="?", metavar="PRESET", help="a preset or a device file")
    cost.add_argument("n_in", nargs="?", type=int, metavar="N_IN", help="inputs of the matrix")
    cost.add_argument("n_out", nargs="?", type=int, metavar="N_OUT", help="outputs of the matrix")
    cost.add_argument("--vectors", type=int, default=1, metavar="N", help="input vectors (1)")
    cost.add_argument(
        "--operation", default="gemv", metavar="NAME", help="at the banks of a DRAM: gemv, score or context (gemv)"
    )
    cost.add_argument("--copies", type=int, default=1, metavar="N", help="at the banks of a DRAM: matrices, heads (1)")
    cost.add_argument(
        "--model",
        metavar="NAME",
        help="price this model instead: one whose shapes are known, or a folder of its config",
    )
    cost.add_argument(
        "--system", metavar="NAME[,NAME...]",
        help="with --model: a preset, a system, or the file of one (rram-techC); several are compared",
    )  # fmt: skip
    cost.add_argument("--batch", type=int, default=1, metavar="N", help="with --model: sequences (1)")
    cost.add_argument("--context", type=int, metavar="N", help="with --model: one step of decoding, N tokens behind")
    cost.add_argument("--prompt", type=int, default=128, metavar="N", help="with --model: tokens read (128)")
    cost.add_argument("--generate", type=int, default=128, metavar="N", help="with --model: tokens written (128)")
    cost.add_argument(
        "--sensitivity", choices=("energy", "latency", "area"), metavar="FIGURE", help="and the values it hangs on most"
    )
    cost.add_argument(
        "--weights", choices=("resident", "streamed"), default="resident",
        help="resident: loaded once and for good; streamed: loaded for these vectors, or for every step of --model",
    )  # fmt: skip
    _finish(cost, verbs.cost, settable=True)

    fit = add("fit", help="a device from measurements: its laws with bands, a device file, a report")
    fit.more = _columns
    fit.add_argument(
        "table", metavar="CSV", help="a row a pulse or reading (or Parquet); what it cannot say in a .toml beside it"
    )
    fit.add_argument(
        "--what", type=lambda text: text.split(","), metavar="NAME,...", help="experiments (all there are)"
    )
    fit.add_argument("--importer", metavar="NAME", help="arc, relax_tsv, keithley, b1500, pulse_pair or aihwkit")
    fit.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (0)")
    fit.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="folder for NAME.toml, fit.json, fit.html (out)"
    )
    fit.add_argument("--quiet", action="store_true", help="no progress")
    _finish(fit, verbs.fit)

    validate = add("validate", help="what the cost model says of published chips, against what was published")
    validate.add_argument("names", nargs="*", metavar="NAME", help="chips, presets, or files with [[point]] tables")
    validate.add_argument("--strict", action="store_true", help="exit status 1 if a miss has no `why`")
    _finish(validate, verbs.validate)

    _finish(add("doctor", help="whether this installation computes right"), verbs.doctor)
    return parser


def _columns() -> str:
    """What the help of `fit` says of the table."""
    from pim.devices.fitting.columns import described

    lines = "\n".join(f"  {line}" for line in described())
    return f"columns of the table, CSV or Parquet (SI units; what was not measured is left out or empty):\n{lines}"


def _finish(parser: argparse.ArgumentParser, verb: Any, settable: bool = False) -> None:
    if settable:
        parser.add_argument(
            "--set", type=_assignment, action="append", default=[], metavar="PATH=VALUE",
            help="change a value of a device; none removes an effect",
        )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    parser.set_defaults(verb=verb)


def _file(text: str) -> Path | str:
    return Path(text) if text else ""


def _assignment(text: str) -> tuple[str, Any]:
    """`weights.adc.bits=6` as a path and a value of TOML; what is none goes as it stands."""
    path, equals, value = text.partition("=")
    if not (path.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH=VALUE")
    return path.strip(), _value(value.strip())


def _sweep(text: str) -> tuple[str, list[Any]]:
    path, equals, values = text.partition("=")
    if not (path.strip() and equals and values.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATH=VALUE,VALUE,...")
    return path.strip(), [_value(value.strip()) for value in values.strip("[]").split(",")]


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

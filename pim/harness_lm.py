"""What lm-evaluation-harness asks of a model, answered by one chip of a plan.

The interface is `lm_eval.api.model.LM` of version 0.4.13.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore[reportMissingImports]

from pim.continuing import continued
from pim.devices.random import chip_key, root_key
from pim.emulation import emulated, program_model
from pim.errors import StudyError
from pim.llm_workloads.positions import Learned
from pim.llm_workloads.tasks.continuations import Continuation, as_continuations
from pim.llm_workloads.text import Row, ScoredText, pack
from pim.mapping.plan import Plan
from pim.plan_checks import check_calibrated, check_causal, check_length, model_of
from pim.scoring import chip_sums, cut_batches

_REQUESTS = "requests of lm-evaluation-harness"
_COUNTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the most tokens to write, the first that is given counts, as in `normalize_gen_kwargs` of the harness."""
_WRITTEN = 256
"""Most tokens to write where a task does not say, as in `HFLM`."""


class PlanLM(LM):
    """One chip of a plan, or its exact model, as the harness knows models; see `pim.harness_model`."""

    def __init__(self, plan: Plan, *, chip: int | None, seed: int, time: float | None, context: int | None):
        super().__init__()
        model = model_of(plan)
        check_causal(plan.config)
        check_calibrated(plan)
        self.model = model
        self.context = plan.config.max_position_embeddings if context is None else context
        key = None if chip is None else chip_key(root_key(seed), chip)
        self._chip = (
            (model.in_memory, {}, None) if key is None else (program_model(plan, key, time), emulated(plan), key)
        )

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each (context, continuation): log probability of the continuation, and whether it is the greedy one."""
        if not requests:
            return []
        items = [Continuation(*r.args, where=f"request {number}", item=number) for number, r in enumerate(requests)]
        text = as_continuations(items, self.model.tokenizer, context=self.context, protocol=_REQUESTS, sha256="")
        sums = self._sums(text)
        greedy = sums["right"] == text.scored_tokens()
        return self._told(
            "loglikelihood", requests, [(-float(n), bool(g)) for n, g in zip(sums["nll"], greedy, strict=True)]
        )

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Of each (text,): log probability of the whole, in the windows that the harness cuts."""
        rows = [
            Row(before + scored, len(before), number)
            for number, request in enumerate(requests)
            for before, scored in self._windows(request.args[0])
        ]
        sums = np.zeros(len(requests))
        if rows:
            text = pack(rows, self.model.tokenizer, context=self._seen() + 1, protocol=_REQUESTS, sha256="")
            np.add.at(sums, [row.source for row in rows], self._sums(text)["nll"])
        return self._told("loglikelihood_rolling", requests, (-sums).tolist())

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Of each (context, options): what greedy decoding writes up to one of the texts in `until`."""
        prompts, ends, counts = [], [], []
        for request in requests:
            context, options = request.args
            _refuse_sampling(options)
            until = options.get("until") or []
            ends.append([until] if isinstance(until, str) else list(until))
            counts.append(_count(options))
            ids = self.model.tokenizer.encode(context)
            begins = self.model.tokenizer.bos_id is not None or not ids
            front = [self._prefix()] if begins else []
            room = self.context - counts[-1] - len(front)
            if room < 1:
                raise StudyError(f"{counts[-1]} tokens are to be written, but the context is {self.context}")
            prompts.append([*front, *ids[max(0, len(ids) - room) :]])
        texts = continued(self.model, *self._chip, prompts, counts, ends)
        return self._told("generate_until", requests, texts)

    def _sums(self, text: ScoredText) -> dict[str, np.ndarray]:
        check_length(self.model.config, text)
        params, devices, key = self._chip
        return chip_sums(self.model.config, params, devices, cut_batches(text, self.model.config.vocab_size), key)

    def _windows(self, text: str) -> Iterable[tuple[list[int], list[int]]]:
        ids = self.model.tokenizer.encode(text)
        windows = get_rolling_token_windows(ids, self._prefix(), max_seq_len=self._seen(), context_len=1)
        return map(make_disjoint_window, windows)

    def _seen(self) -> int:
        """Tokens that the model sees of a rolling window: the context, as in `HFLM`.

        The last scored token stands behind them; we read it too, for nothing, so that a table of positions needs one
        more.
        """
        positions = self.model.config.positions
        if isinstance(positions, Learned):
            return min(self.context, positions.rows - positions.offset - 1)
        return self.context

    def _prefix(self) -> int:
        """What stands before a text: BOS, else the end of the one before."""
        tokenizer = self.model.tokenizer
        found = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        if found is None:
            raise StudyError("the tokenizer has neither BOS nor EOS for a text to begin with")
        return found

    def _told(self, kind: str, requests: Sequence[Any], answers: list[Any]) -> list[Any]:
        """The answers, put into the harness's cache if it keeps one."""
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(kind, request.args, answer)
        return answers


def _count(options: dict[str, Any]) -> int:
    """Most tokens to write."""
    if "max_length" in options:
        raise StudyError("max_length counts the prompt too, which no task's prompts agree on: give max_gen_toks")
    return int(next((options[name] for name in _COUNTS if options.get(name) is not None), _WRITTEN))


def _refuse_sampling(options: dict[str, Any]) -> None:
    if options.get("do_sample") or options.get("temperature"):
        raise StudyError(f"only greedy decoding is there, but the task asks for {options}")

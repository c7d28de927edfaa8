"""What the engine child asks of a loaded model: replies, and the states of chats on disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import replace

from openchat_local.models.engine.decoding.llamacpp import Adapter
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.output import Emit
from openchat_local.models.engine.decoding.prompting import Prompt, fitted_prompt
from openchat_local.models.engine.decoding.reply import Fail, Reply
from openchat_local.models.engine.decoding.runner import Cancels, Runner
from openchat_local.models.engine.decoding.sampler import TokenSampler
from openchat_local.models.engine.decoding.scheduler import Scheduler
from openchat_local.models.engine.decoding.sequences import CachedSequence
from openchat_local.models.engine.protocol import AdapterChoice, GenerationRequest
from openchat_local.models.engine.states import forget_chat
from openchat_local.models.template import Template

# A state of fewer tokens is not worth its file.
SAVE_MINIMUM = 128


class Service:
    """Requests become jobs of one scheduler; what chats leave behind goes to the disk when
    there is time.

    A request with a seed of its own gives the same tokens again, whatever else the machine or
    the engine does meanwhile: prompts are cut into chunks by position alone, a chunk that is in
    the cache is used whole or decoded again, the number of threads changes no bit, and nobody
    else has rows or cells beside it. A prefix in the cache gives the very bits that decoding
    it afresh would give, up to the chunk in which its first reply begins: a reply's tokens were
    decoded one by one and stay as they are, which spares the next turn reading them again;
    afresh they would be read in chunks, and sums be rounded otherwise.
    """

    def __init__(
        self,
        cancels: Cancels,
        runner: Runner,
        template: Template,
        in_force: Callable[[AdapterChoice | None], ActiveAdapter],
        open_runner: Callable[[int], Runner | None] | None = None,
    ) -> None:
        """`in_force` says what a choice of adapter means, `open_runner` makes a second runner of so
        many tokens (see `Scheduler`)."""
        self.cancels = cancels
        self.template = template
        self._in_force = in_force
        self._size = runner.pool.size
        runner.pool.dropping = self._dropping
        self.scheduler = Scheduler(runner, cancels, open_runner)
        self._left = False  # whether a chat was left that is not on disk yet

    def prompt(self, request: GenerationRequest, condition: str) -> Prompt:
        """The prompt of a request, under `condition` where it names none. Any thread may ask:
        a long one takes its time, in which others are to go on. Raises DoesNotFit or
        TemplateError."""
        return fitted_prompt(self.template, request, self._size, condition)

    def submit(
        self,
        id: int,
        request: GenerationRequest,
        emit: Emit,
        fail: Fail,
        prompt: Prompt | None = None,
    ) -> None:
        """Begin a reply as soon as there is room. `emit` gets all its events, `fail` what
        ended it instead of the last. `prompt` is the request's, if it was made already.

        Raises DoesNotFit when the prompt leaves no room for a reply, EngineError for a
        schema that cannot be held, AdapterError, ModelFileError, TemplateError.
        """
        adapter = self._in_force(request.adapter)
        condition = request.conversation.condition
        condition = adapter.condition if condition is None else condition
        if prompt is None or prompt.condition != condition:  # another adapter came meanwhile
            prompt = self.prompt(request, condition)
        emit(prompt.fitted)
        model = self.scheduler.runner.context.model
        sampler = TokenSampler(model, request.sampling, self.template.stop_ids, request.logit_bias)
        try:
            reply = Reply(id, request, prompt, adapter, sampler, self.template, emit, fail)
        except BaseException:
            sampler.close()
            raise
        self.scheduler.add(reply)

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return self.scheduler.busy

    def step(self) -> None:
        """Go on with what there is to do."""
        self.scheduler.step()
        if self._left and not self.scheduler.busy:
            self._left = False
            self._save_all(only_left=True)

    def give_up(self, error: Exception) -> None:
        """End all that is in progress with this error, of which nobody knows whose it is."""
        self.scheduler.give_up(error)

    def adapters_in_use(self) -> Collection[Adapter]:
        """Those that cannot be freed now."""
        jobs = self.scheduler.jobs
        used = [job.adapter.weights for job in jobs] + [self._in_force(None).weights]
        used += [job.adapter.weights for job in self.scheduler.beside if job.adapter]
        used += [runner.in_force.weights for runner in self.scheduler.runners if runner.in_force]
        return [weights for weights in used if weights is not None]

    # KV states on disk

    def leave(self, chat_key: str) -> None:
        """The chat will not be continued soon: write its state, now if nobody waits."""
        for sequence in self._sequences():
            if sequence.chat_key == chat_key:
                sequence.left = self._left = True
        if not self.scheduler.busy:
            self._left = False
            self._save_all(only_left=True)

    def forget(self, chat_key: str) -> None:
        """Never write this chat's state again, and remove what is on disk and in the cache."""
        for job in self.scheduler.jobs:
            if isinstance(job, Reply) and job.request.chat_key == chat_key:
                job.request = replace(job.request, chat_key=None)  # it may wait for its cells
        for runner in self.scheduler.runners:
            for sequence in list(runner.pool.sequences):
                if sequence.chat_key == chat_key:
                    sequence.chat_key = None
                    if not sequence.live:
                        runner.pool.drop(sequence)
        states = self._in_force(None).states
        if states is not None:
            forget_chat(states.folder, chat_key)  # those of other adapters as well

    def close(self) -> None:
        """End all replies as if cancelled, and write the states of all chats."""
        self.cancels.cancel(None)
        while self.scheduler.busy:
            self.scheduler.step()
        self._save_all(only_left=False)

    def _save_all(self, *, only_left: bool) -> None:
        sequences = [one for one in self._sequences() if one.left or not only_left]
        for sequence in sorted(sequences, key=lambda one: -one.last_use):
            self._save(sequence)

    def _dropping(self, sequence: CachedSequence) -> None:
        if sequence.left and not sequence.live:
            self._save(sequence)

    def _save(self, sequence: CachedSequence) -> None:
        """Write a chat's state to disk, if it is worth it."""
        chat_key, states = sequence.chat_key, sequence.states
        if states is None or chat_key is None or not sequence.unsaved:
            return
        if len(sequence.tokens) < SAVE_MINIMUM:
            return
        context = next(
            runner.context for runner in self.scheduler.runners if sequence in runner.pool.sequences
        )
        try:
            sequence.unsaved = not states.save(
                chat_key,
                list(sequence.tokens),
                [list(span) for span in sequence.chunks],
                context.state_size(sequence.id),
                lambda path: context.save_state(path, sequence.id, sequence.tokens),
                exact=sequence.exact,
            )
        except OSError as error:  # nobody waits for it, and it is no loss
            sys.stderr.write(f"KV state not written: {error}\n")

    def _sequences(self) -> list[CachedSequence]:
        return [one for runner in self.scheduler.runners for one in runner.pool.sequences]

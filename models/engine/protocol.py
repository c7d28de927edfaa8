"""What generates text, seen from outside: requests, events, and the `Engine` protocol.

The window, `ask` and the report of a fine-tune know engines through this module alone.
Everything here is plain data that crosses a process boundary as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.capabilities import RemotePlace
from openchat_local.models.engine.context_window import Overflow
from openchat_local.models.thoughts import ThoughtMarks
from openchat_local.models.tools import ToolMarks

if TYPE_CHECKING:
    import numpy as np

FinishReason = Literal["stop", "length", "cancelled"]
KVType = Literal["f16", "q8_0"]
FlashAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Samplers apply in llama.cpp's usual order:
    penalty, top-k, top-p, min-p, temperature, draw.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty` 1
    each switch their sampler off. `seed` None draws a new one per reply.
    `max_tokens` None means: until the model stops or the context is full.
    `stop` strings end the reply and are not part of it. `json_schema` is a JSON
    schema (a dict, or True for any JSON) that the reply is forced to obey, in one line; a
    keyword that cannot be enforced is refused by name. `thinking` is the conversation's (see
    there) where it is not None; what obeys a schema is written without.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | bool | None = None
    thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """The LoRA adapter at `path`, its effect multiplied by `scale`; with no path, none."""

    path: Path | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A reply to `conversation`, which ends with a user turn; or, if `continues`, with an
    assistant turn, not empty, that is continued where it stopped.

    `chat_key` names the chat whose KV state the engine may keep on disk (letters,
    digits and dashes); None keeps nothing, as for a private chat. `update_interval`
    is the least time in seconds between two `TextDelta`s: the engine and the screen
    share the same cores, so fewer and larger updates decode faster. `adapter` is the one that
    this reply is written with; None for the engine's own (see `Engine.set_adapter`). `overflow`
    says what happens where the conversation is longer than the context: the engine leaves its
    oldest turns out, as `context_window.fit` says, or refuses it.

    `seed_drawn` says that the sampling's seed is nobody's wish but was drawn for this reply:
    what it gives need not come again to the last bit. `speculate` lets the engine draft tokens
    that occurred before and verify several at once: faster where text repeats, and nothing
    else, so that an `exact` reply does without (see `speculation`). `likely` is text that the
    reply may repeat beside its prompt, such as the reply as it was before it was edited.

    `prompt_ids` are a prompt as it stands, without a template, in place of the conversation's:
    what is generated continues it, and a prompt that does not fit is refused. `logit_bias` are ids
    and what is added to their logits before any sampler sees them: -100 bans a token.
    """

    conversation: Conversation
    sampling: Sampling = field(default_factory=Sampling)
    chat_key: str | None = None
    update_interval: float = 0.1
    continues: bool = False
    adapter: AdapterChoice | None = None
    overflow: Overflow = "refuse"
    seed_drawn: bool = False
    speculate: bool = True
    likely: str = ""
    prompt_ids: tuple[int, ...] | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the reply has a seed of its own, and repeats with it bit for bit."""
        return self.sampling.seed is not None and not self.seed_drawn


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost. Token counts are exact; times are wall seconds.

    prompt_tokens = reused_tokens + evaluated_tokens, unless cancelled in the prefill.
    `restored_tokens` is the part of `reused_tokens` that came from a KV state on disk.
    `generated_tokens` counts the sampled tokens, a closing end-of-turn included. Of the
    `drafted_tokens`, which were evaluated before they were sampled, `accepted_tokens` were
    what was sampled then. `reasoning_tokens` of the generated ones, their marks included, were
    thoughts (see `thoughts`), which took `reasoning_seconds`.
    """

    prompt_tokens: int
    reused_tokens: int
    restored_tokens: int
    evaluated_tokens: int
    generated_tokens: int
    restore_seconds: float
    prefill_seconds: float
    decode_seconds: float
    time_to_first_token: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    reasoning_tokens: int = 0
    reasoning_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed; 0.0 when nothing was decoded."""
        return self.generated_tokens / self.decode_seconds if self.decode_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PromptFitted:
    """The first event of a reply: its prompt is `tokens` long, and the first `left_out` turns
    after the system prompt are not in it, since they did not fit."""

    tokens: int
    left_out: int


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """`evaluated` of the `total` prompt tokens that are new to the engine are done."""

    evaluated: int
    total: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the reply: always whole characters. `tokens` counts those in it. Where
    the prompt has opened the reply's thoughts, the first piece begins with that mark."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing new for half a second; the engine is still at work."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply is complete. `token_ids` are the reply's content tokens as sampled,
    end-of-turn left out; of a continued one, those that were there before come first.
    `note` is a sentence for the user, if one is due. `adapter` is
    the name of the adapter that wrote it, None for the model as it is. `complete` is False
    where a JSON schema was to be obeyed and the reply ends before it is. `vocabulary` is the
    fingerprint of the one that the ids belong to, None where the engine does not say."""

    reason: FinishReason
    usage: Usage
    token_ids: tuple[int, ...]
    note: str | None = None
    adapter: str | None = None
    complete: bool = True
    vocabulary: str | None = None


GenerationEvent = PromptFitted | PrefillProgress | TextDelta | Heartbeat | Finished


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What a local engine is started with. 0, of `gpu_layers` -1, means: chosen for this
    machine.

    `context` in tokens, `threads` for decoding. `template`
    overrides the family read from the file. `adapter` is a LoRA adapter's GGUF file, its
    effect multiplied by `adapter_scale`; `adapter_forced` takes one of another model of the
    same shapes. Without `speculation` no request is. `states_dir` is where KV states are kept,
    None keeps none, `states_budget` is their size limit in bytes altogether. `sequences` is how
    many replies may be in progress at once; they share the one context. `kv_type` is what the
    KV cache holds its numbers as: "q8_0" takes 8.5 bits for each, "f16" 16. `flash_attention` is
    the CPU's; "auto" is what is faster there, which is kept in the file `findings`, and without
    one "off".
    """

    model_path: Path
    context: int = 0
    gpu_layers: int = -1
    threads: int = 0
    template: str | None = None
    states_dir: Path | None = None
    states_budget: int = 2 * 1024**3
    vocab_only: bool = False
    adapter: Path | None = None
    adapter_scale: float = 1.0
    adapter_forced: bool = False
    sequences: int = 8
    kv_type: KVType = "f16"
    speculation: bool = True
    flash_attention: FlashAttention = "auto"
    findings: Path | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """How likely is `continuation` after `prompt`?

    Either is token ids, or a conversation and a text. After a conversation that ends with an
    assistant turn that turn is continued, and the text is tokenised by itself; after any
    other the text is a reply, tokenised as one is. `top` of the likeliest tokens are told for
    each position. `adapter` as in `GenerationRequest`.

    Of a continuation of ids, `judged` may name the stretches that are asked about, ascending,
    each from its first token up to the one after its last: the score is of these tokens, as if
    there were no others. So all answers of a conversation are scored in one pass.
    """

    prompt: Conversation | tuple[int, ...]
    continuation: str | tuple[int, ...]
    top: int = 0
    adapter: AdapterChoice | None = None
    judged: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of a continuation: the `ids` that are judged, and for each the natural
    logarithm of its probability after all tokens before it, whether it is what greedy decoding
    would choose, and the likeliest tokens with theirs, in descending order.

    `index` says which of the requests it answers. `shared_tokens` of the `tokens` that went
    through the model did so for another request.
    """

    index: int
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    greedy: tuple[bool, ...]
    top: tuple[tuple[tuple[int, float], ...], ...]
    tokens: int
    shared_tokens: int

    @property
    def log_probability(self) -> float:
        """That of the whole continuation, in nats; 0.0 of an empty one."""
        return sum(self.log_probabilities)


Pooling = Literal["mean", "last"]


@dataclass(frozen=True, slots=True)
class Passage:
    """Token ids to be embedded as they are. The mean is that of the tokens from `start` on,
    which all have read what stands before them; so it is an answer's, in its own chat."""

    ids: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """The LoRA adapter in force. `condition` is the one it was trained to be at its best
    under ("" for none); None where its file does not say."""

    name: str
    path: str
    scale: float
    condition: str | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What the engine says of itself once the model is loaded. Sizes in bytes.

    `default_condition` is the adapter's where it has one, else the template's. `sequences` is
    how many replies can be in progress at once: one where the model's cache cannot be cut.
    `thoughts` are the marks around what its replies think, None where they do not;
    `thinking_switch` says whether `Conversation.thinking` changes anything. `tools` are the marks
    around calls of functions, None where the model knows none.
    `remote` says where it answers, if that is another program; its `path` is empty then, and its
    `context` 0 where the server does not tell.
    """

    name: str
    path: str
    architecture: str
    context: int
    context_trained: int
    template: str
    template_note: str | None
    default_condition: str
    threads: int
    gpu_layers: int
    file_size: int
    state_bytes_per_token: int
    load_seconds: float
    notes: tuple[str, ...] = ()
    adapter: AdapterInfo | None = None
    sequences: int = 1
    thoughts: ThoughtMarks | None = None
    thinking_switch: bool = False
    tools: ToolMarks | None = None
    remote: RemotePlace | None = None


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A conversation as token ids, with the text of each (special tokens by their names)."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VocabularyFacts:
    """A vocabulary of `size` tokens. `bos` and `eos` are names, None where there is no such
    token; `adds_bos` says whether a prompt begins with BOS, `spaced` whether a space that is no
    part of it stands in front of a text there. `ends` are the ids that end a reply."""

    size: int
    bos_id: int | None
    bos: str | None
    eos_id: int | None
    eos: str | None
    adds_bos: bool
    spaced: bool
    ends: tuple[int, ...]


class Engine(Protocol):
    """The one thing that generates text. Every method may be called from any thread.

    Methods raise `EngineError` (one sentence; the engine lives on) or `EngineDied`
    (the child is gone; the next call starts a new one).
    """

    def start(self) -> None:
        """Begin to load in the background; returns at once. Calling it again is harmless."""

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        """Block until the model is loaded; `on_progress` gets fractions from 0 to 1.

        Raises ModelLoadError or EngineDied.
        """

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        """Stream one reply; the last event is `Finished`. Several may be in progress at once,
        each in a thread of its own; one that finds no room waits until there is some. Closing
        the generator early cancels that reply.
        """

    def cancel(self, request: GenerationRequest | None = None) -> None:
        """Stop the reply to this very `request`, or all that are in progress; their iterators
        then end with reason "cancelled"."""

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        """How likely continuations are. Scores come as they are ready, in any order, each with
        its request's `index`; what requests begin alike with is evaluated once. Replies that
        are being decoded go on meanwhile. Closing the generator early gives up the rest.

        Raises ContextOverflow, before anything is evaluated, where one is too long.
        """

    def embed(
        self,
        texts: Sequence[str | Passage],
        pooling: Pooling = "mean",
        adapter: AdapterChoice | None = None,
    ) -> np.ndarray:
        """(texts, width) float32: the last hidden states of each text, after the final norm:
        their mean, or that of the last token. Texts are plain, without a template; a `Passage`
        is tokens as they are.

        Raises ContextOverflow where one is too long, EngineError where one has no token, or
        one that is no token.
        """

    def render(self, conversation: Conversation) -> RenderedPrompt:
        """The exact prompt for the next reply. Answered while a reply is being decoded."""

    def count_tokens(self, conversation: Conversation) -> int:
        """How many tokens `render` would give. Answered while a reply is being decoded."""

    def vocabulary(self) -> VocabularyFacts:
        """What there is to know of the model's tokens."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of plain text at the beginning of a prompt, BOS left out; no part of it
        becomes a control token. Answered while a reply is being decoded."""

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each of `ids`, which need not be whole characters; control tokens by
        their names. Answered while a reply is being decoded. Raises EngineError for one that
        is no token."""

    def fit(self, request: GenerationRequest) -> PromptFitted:
        """How the prompt of `request` would fit, without a reply. Answered while a reply is
        being decoded. Raises DoesNotFit."""

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        """Use the LoRA adapter at `path` from the next reply on, or none, without loading the
        model again; replies in progress keep theirs.

        What the KV cache holds stays, and is found again by its own adapter. Raises AdapterError
        or ModelFileError when the file cannot be used; the adapter before stays in force then.
        """

    def leave(self, chat_key: str) -> None:
        """The user left this chat: write its KV state to disk when there is time."""

    def forget(self, chat_key: str) -> None:
        """The chat was deleted: drop its KV state from memory's bookkeeping and from disk."""

    def close(self) -> None:
        """End the child without waiting for its disk writes. The engine can start again."""

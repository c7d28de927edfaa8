"""A template of a known family, for one vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.families import Family
from openchat_local.models.template.rendering import Piece, PieceTemplate
from openchat_local.models.template.thoughts import marks_in
from openchat_local.models.template.vocabulary import Vocabulary

_NO_CONDITION = "This model was trained without conditions: none is written."


class FamilyTemplate(PieceTemplate):
    """`family` written in `vocabulary`, which must have its special tokens (`fits`).

    `default_system` opens every conversation that has no system turn of its own. `note` is a
    doubt about the choice of the family, for the user to see.
    """

    def __init__(
        self,
        family: Family,
        vocabulary: Vocabulary,
        *,
        bos: bool,
        default_system: str | None,
        note: str | None = None,
    ) -> None:
        end_of_turn = _end_of_turn(family, vocabulary)
        assert end_of_turn is not None, f"{family.name} does not fit this vocabulary"
        vocabulary = vocabulary.guarding(family.own_texts())
        super().__init__(
            family.name,
            vocabulary,
            bos=bos,
            stop_ids=frozenset({end_of_turn}),
            default_condition=family.default_condition,
            note=note if family.takes_condition else _NO_CONDITION,
            thoughts=marks_in("", vocabulary),
        )
        self.family = family
        self.default_system = default_system
        try:
            self._end_of_turn = vocabulary.piece(end_of_turn).decode()
        except UnicodeDecodeError as error:
            raise TemplateError(
                "The model's end of turn is not a text, so that its file must be damaged: fetch it "
                "again."
            ) from error
        self._spaced = family.spaced and vocabulary.adds_space_prefix

    @property
    def end_of_turn(self) -> str:
        """What ends a turn, as it is written."""
        return self._end_of_turn

    @property
    def begins_with_bos(self) -> bool:
        """Whether a prompt does."""
        return self._bos and self.vocabulary.bos_id is not None

    @property
    def spaces_contents(self) -> bool:
        """Whether a space that is not part of it opens every content."""
        return self._spaced

    def text(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        """The prompt under the default condition, as a published template would write it, BOS
        left out; with `generate` it asks for a reply."""
        pieces = self._turns(
            messages, self.default_condition, generate=generate, spaced=self.family.spaced
        )
        return "".join(" " + piece.text if piece.spaced else piece.text for piece in pieces)

    def _pieces(self, conversation: Conversation, generate: bool) -> Iterator[Piece]:
        condition = conversation.condition
        condition = self.default_condition if condition is None else condition.strip()
        for literal in self.vocabulary.special_literals:
            if literal in condition:
                raise TemplateError(
                    f"The condition {condition!r} contains the control token {literal!r}; "
                    "choose a condition of plain words."
                )
        return self._turns(conversation.messages, condition, generate, self._spaced)

    def _turns(
        self, messages: Sequence[Message], condition: str, generate: bool, spaced: bool
    ) -> Iterator[Piece]:
        first = 0
        if self.default_system is not None and not (messages and messages[0].role == "system"):
            messages, first = (Message("system", self.default_system), *messages), -1
        return self.family.pieces(
            messages,
            condition=condition,
            end_of_turn=self._end_of_turn,
            generate=generate,
            spaced=spaced,
            first=first,
        )

    def _replies_spaced(self) -> bool:
        return self._spaced


def fits(family: Family, vocabulary: Vocabulary) -> bool:
    """Whether `vocabulary` has the special tokens that `family` needs."""
    has_special = all(vocabulary.id_of(literal) is not None for literal in family.special)
    return has_special and _end_of_turn(family, vocabulary) is not None


def _end_of_turn(family: Family, vocabulary: Vocabulary) -> int | None:
    if family.end_of_turn is None:
        return vocabulary.eos_id
    return vocabulary.id_of(family.end_of_turn)

"""What the simulated provider says. Pure and deterministic: canned text, no model, no I/O, no clock."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scripts.simulated_protocol import Answer, ApiError, Finish, Json, PromptTokens, Question, Tool
from scripts.simulated_schema import arguments


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    name: str
    first_token_s: float
    """Seconds until an answer begins."""
    tokens_per_s: float
    skill: str


MODELS = {
    model.name: model
    for model in (
        SimulatedModel("sim-small", 0.04, 400, "A small model answers this in a sentence."),
        SimulatedModel(
            "sim-medium",
            0.08,
            200,
            "A medium model explains its answer, with an example and the usual pitfalls.",
        ),
        SimulatedModel(
            "sim-large",
            0.15,
            100,
            "A large model weighs the alternatives, works through the hard steps one by one, "
            "checks its result and says what remains uncertain.",
        ),
    )
}


def model_of(body: Json) -> SimulatedModel:
    """Raises ApiError (404) for a model that is not simulated."""
    name = body.get("model")
    if not isinstance(name, str) or name not in MODELS:
        message = f"The model `{name}` does not exist; the simulated provider has {', '.join(MODELS)}."
        raise ApiError(message, "model", 404, "model_not_found")
    return MODELS[name]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """What a request says of its tools: `mode` is auto, none or required; `name` is that of the required one."""

    mode: str = "auto"
    name: object = None


def tool_to_call(offered: Sequence[Tool], choice: ToolChoice, text: str, after_result: bool) -> Tool | None:
    """The named tool, the first when a call is required or the user's text speaks of tools, or none.

    Raises ApiError for a name that is not offered.
    """
    tools = [tool for tool in offered if choice.name in (None, tool.name)]
    if choice.name is not None and not tools:
        raise ApiError(f"tool_choice names {choice.name!r}, which is not among tools.", "tool_choice")
    # A tool's result is answered in words: otherwise an agent's loop would never end.
    if not tools or after_result or choice.mode == "none":
        return None
    asked_for = re.search(r"\btools?\b", text, re.IGNORECASE) is not None
    return tools[0] if choice.mode == "required" or asked_for else None


def answer_to(question: Question, model: SimulatedModel, tokens: PromptTokens) -> Answer:
    """The answer to a question whose prompt has so many tokens; raises ApiError for one that cannot be answered."""
    if question.tool is not None:
        pieces = _tokens(arguments(question.tool.schema))
        answer = Answer(pieces, Finish.TOOL_CALL, tokens, question.tool.name)
    else:
        answer = _stopped(question.structured or _prose(model, question.text), question.stop_sequences, tokens)
    if question.limit is None or len(answer.pieces) <= question.limit:
        return answer
    return replace(answer, pieces=answer.pieces[: question.limit], finish=Finish.LENGTH, stop_sequence=None)


def _prose(model: SimulatedModel, question: str) -> str:
    echo = " ".join(question[:1000].split()[:8])[:60]
    return f'[simulated {model.name}] You wrote "{echo}". {model.skill} This text is canned: no model ran.'


def _stopped(text: str, stop_sequences: Sequence[str], tokens: PromptTokens) -> Answer:
    """The text as an answer, up to whichever stop sequence comes first."""
    found = [(text.index(sequence), sequence) for sequence in stop_sequences if sequence in text]
    if not found:
        return Answer(_tokens(text), Finish.STOP, tokens)
    end, sequence = min(found)
    return Answer(_tokens(text[:end]), Finish.STOP_SEQUENCE, tokens, stop_sequence=sequence)


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S{1,12}|\s+", text))

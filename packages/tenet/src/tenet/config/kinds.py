"""The kinds of values that the keys of a configuration take, and what is said of wrong ones."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

# Constructors that a configuration may name; their text is looked up, never evaluated.
LOSSES = ("nn.BCELoss()", "nn.MSELoss()", "nn.L1Loss()", "nn.SmoothL1Loss()")
ACTIVATIONS = ("nn.ReLU(inplace=True)", "nn.ReLU()")


def _named(allowed: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> str:
        name = value.replace(" ", "").replace("torch.", "") if isinstance(value, str) else ""
        if name not in allowed:
            raise ValueError("no such name")
        return name

    return BeforeValidator(check)


def _false_is_zero(value: Any) -> Any:
    return 0 if value is False else value


def _null_is_false(value: Any) -> Any:
    return False if value is None else value


def kind(type_: Any, words: str, *validators: BeforeValidator, **limits: Any) -> Any:
    """Return a type of values that messages call by these words."""
    return Annotated[type_, *validators, Field(description=words, **limits)]


Count: Any = kind(int, "a whole number, 1 or more", ge=1)
CountOrZero: Any = kind(int, "a whole number, 0 or more", ge=0)
Masks: Any = kind(
    int, "a whole number, 0 or more, or false for none", BeforeValidator(_false_is_zero), ge=0
)
Real: Any = kind(float, "a number", allow_inf_nan=False)
Positive: Any = kind(float, "a number above 0", gt=0, allow_inf_nan=False)
Weight: Any = kind(float, "a number, 0 or more", ge=0, allow_inf_nan=False)
Share: Any = kind(float, "a number between 0 and 1, both excluded", gt=0, lt=1)
Probability: Any = kind(float, "a number from 0 to below 1", ge=0, lt=1)
Threshold: Any = kind(float, "a number from 0 to 1", ge=0, le=1)
Flag: Any = kind(bool, "true or false")
Switch: Any = kind(bool, "true, false or null", BeforeValidator(_null_is_false))
Text: Any = kind(str, "a text", min_length=1)
Ignored: Any = kind(Any, "anything; this key is not used")
Loss: Any = kind(Literal[LOSSES], " or ".join(LOSSES), _named(LOSSES))
Activation: Any = kind(Literal[ACTIVATIONS], " or ".join(ACTIVATIONS), _named(ACTIVATIONS))
Length = Annotated[int, Field(ge=1)]
Size: Any = kind(tuple[Length, Length, Length], "three whole numbers [Z, Y, X], each 1 or more")
LengthOrZero = Annotated[int, Field(ge=0)]
Margin: Any = kind(
    tuple[LengthOrZero, LengthOrZero, LengthOrZero],
    "three whole numbers [Z, Y, X], each 0 or more",
)


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError(f"{value[0]:g} to {value[1]:g}; allowed: rising, above 0, up to 1")
    return value


Interval: Any = Annotated[
    tuple[float, float],
    AfterValidator(_rising),
    Field(description="two numbers above 0 and up to 1, the lower first"),
]


class Section(BaseModel):
    """A section; unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

"""How the supervised base's responses are written; `tiny.traces` writes them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LevelTraceSettings:
    """Weights of the ways of working on one level."""

    careful: float
    lines: tuple[float, ...]
    """Weights of lines of 1, 2, ... operations."""
    direct: float


@dataclass(frozen=True)
class TraceSettings:
    """How supervised responses are written."""

    levels: dict[int, LevelTraceSettings] = field(
        default_factory=lambda: {
            1: LevelTraceSettings(0.3, (0.4,), 0.3),
            2: LevelTraceSettings(0.25, (0.35, 0.1), 0.3),
            3: LevelTraceSettings(0.25, (0.35, 0.4), 0.0),
            4: LevelTraceSettings(0.25, (0.4, 0.35), 0.0),
            5: LevelTraceSettings(0.25, (0.4, 0.35), 0.0),
        }
    )
    """Settings of each problem level."""
    checks: tuple[float, ...] = (0.35, 0.45, 0.2)
    """Weights of checking 0, 1, 2, ... times; not for direct answers."""

"""ConfigError: settings that cannot be used, with every fault found and its remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigProblem:
    """One fault: the key or option it is about (empty: the file as a whole), what is wrong, what to do."""

    where: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        tail = f" {self.remedy}." if self.remedy else ""
        return f"{head}{self.problem}.{tail}"


class ConfigError(ValueError):
    """`source` names the file, or the command line."""

    def __init__(self, source: str, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source} cannot be used:\n{lines}")

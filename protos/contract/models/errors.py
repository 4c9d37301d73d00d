"""The one error of the readers in this package."""

from pathlib import Path

AGAIN = "download or convert it again"


class BadModelFile(Exception):
    """A file that is no model's, or is damaged: one line that names the file, what is wrong and what to do."""

    def __init__(self, path: Path, problem: str, remedy: str = AGAIN) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy

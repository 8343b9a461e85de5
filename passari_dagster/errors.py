"""The three kinds of things that go wrong, and nothing else.

A content problem is the object's fault, a permanent failure is the installation's, a transient failure is
the world's. Every other exception is treated as transient: it is retried, and shown when retries are spent.
"""

from __future__ import annotations

from collections.abc import Sequence


class PassariError(Exception):
    """Base of the errors whose message is written for an administrator."""


class SettingsError(PassariError):
    """A setting is missing or wrong; the message names it and says what it should be."""


class ContentProblem(PassariError):
    """The object itself cannot be preserved as it is: it is frozen, never retried.

    Arguments:
        reason: stable text; objects are frozen and unfrozen by it, so it holds no names or numbers of the
            single object.
        detail: what exactly was found and where.
        code: which kind of problem it is; see `sip/problems.py`.
        advice: what a person can do about it.
        problems: where it stands for those of several files: each with its file, a path in the package.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        code: str = "",
        advice: str = "",
        problems: Sequence[tuple[str, ContentProblem]] = (),
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.code = code
        self.advice = advice
        self.problems = tuple(problems)


class PermanentFailure(PassariError):
    """Trying again cannot help until somebody changes something (a key, a permission, a setting)."""


class UnforeseenContent(PermanentFailure):
    """What reads the object's content failed in a way that no detector knows: a candidate for a new one."""


class TransientFailure(PassariError):
    """A service did not answer as it should; the step is tried again later."""

"""Put the files of a model into a repository on the hub, in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Token = str | bool | None


@dataclass(frozen=True)
class Commit:
    """What a commit is to be.

    Attributes
    ----------
    message : str
        Its first line.
    description : str or None
        What follows.
    revision : str or None
        The branch; made where it is missing.
    is_proposed : bool
        Whether it is a pull request, and the branch ``"main"`` stays as it is.

    Raises
    ------
    ValueError
        If another branch is named for a pull request.
    """

    message: str
    description: str | None = None
    revision: str | None = None
    is_proposed: bool = False

    def __post_init__(self) -> None:
        if self.is_proposed and self.revision is not None:
            raise ValueError(
                f"revision={self.revision!r} with create_pr=True: a pull request is for the branch "
                '"main". Leave one of them out.'
            )


@dataclass(frozen=True)
class HubRepository:
    """A repository that can be written.

    Attributes
    ----------
    name : str
        Its owner and its own name.
    token : str, bool or None
        As ``huggingface_hub`` takes it.
    """

    name: str
    token: Token

    @classmethod
    def made(cls, name: str, *, private: bool | None, token: Token) -> HubRepository:
        """Make a repository, or find the one that is there.

        Raises
        ------
        OSError
            If the hub cannot be reached or refuses.
        ValueError
            If that is no name of a repository.
        """
        with _errors_of_the_hub(name, token):
            url = _api().create_repo(name, private=private, token=token, exist_ok=True)
            return cls(str(url.repo_id), token)

    def text(self, file: str, commit: Commit) -> str | None:
        """Read a file at the commit's branch; None where there is none, or it is no text."""
        from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

        with _errors_of_the_hub(self.name, self.token):
            try:
                path = _api().hf_hub_download(
                    self.name, file, revision=commit.revision, token=self.token
                )
            except (EntryNotFoundError, RevisionNotFoundError):
                return None
        return Path(path).read_text(encoding="utf-8", errors="replace")

    def commit(self, folder: Path, replaces: Sequence[str], commit: Commit) -> str:
        """Put all files of a folder into the repository, in one commit.

        Parameters
        ----------
        folder : Path
            With the files; their names are those in the repository.
        replaces : sequence of str
            Patterns of the files there that go where they do not come anew.
        commit : Commit
            What is said of it, and where it goes.

        Returns
        -------
        str
            The address of the commit, or of the pull request.

        Raises
        ------
        OSError
            If the hub cannot be reached or refuses; the repository is as it was.
        """
        with _errors_of_the_hub(self.name, self.token):
            if commit.revision is not None and not commit.revision.startswith("refs/"):
                _api().create_branch(
                    self.name, branch=commit.revision, token=self.token, exist_ok=True
                )
            done = _api().create_commit(
                self.name,
                operations=self._operations(folder, replaces, commit.revision),
                commit_message=commit.message,
                commit_description=commit.description,
                token=self.token,
                revision=commit.revision,
                create_pr=commit.is_proposed,
            )
            return str(done.pr_url or done.commit_url)

    def _operations(self, folder: Path, replaces: Sequence[str], revision: str | None) -> list[Any]:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        new = {path.relative_to(folder).as_posix(): path for path in paths}
        there = _api().list_repo_files(self.name, revision=revision, token=self.token)
        left = [
            name
            for name in there
            if name not in new and any(fnmatchcase(name, pattern) for pattern in replaces)
        ]
        return [
            *(CommitOperationAdd(name, path) for name, path in new.items()),
            *(CommitOperationDelete(name) for name in left),
        ]


def _api() -> Any:
    from huggingface_hub import HfApi

    from .._version import __version__

    return HfApi(library_name="skgliclass", library_version=__version__)


@contextmanager
def _errors_of_the_hub(name: str, token: Token) -> Iterator[None]:
    """Say what to do about what the hub, or the way to it, refuses."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f'repo_id={name!r} is no name of a repository on the hub. Write "owner/name", of '
            f"letters, digits, '-', '_' and '.'. ({error})"
        ) from error
    except Exception as error:
        # Errors of the HTTP library, which differs from version to version, are no OSErrors.
        raise OSError(
            f"{name!r} could not be pushed: {_advice(name, error, token)} "
            f"({type(error).__name__}: {error})"
        ) from error


def _advice(name: str, error: Exception, token: Token) -> str:
    from huggingface_hub import get_token
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    by_hand = f"Or save_pretrained(folder), and later `hf upload {name} folder`."
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, so that nothing is sent. Unset it. {by_hand}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    has_token = isinstance(token, str) or (token is not False and get_token() is not None)
    if isinstance(error, LocalTokenNotFoundError) or (status == 401 and not has_token):
        return "there is no token. Run `hf auth login`, set HF_TOKEN, or pass token=."
    if status in (401, 403, 404):
        return (
            "the token does not allow it. Make one in the settings of the hub that may write to "
            f"{name.rpartition('/')[0] or 'your repositories'!r}, and check the name."
        )
    if status in (409, 412):
        return "it was changed meanwhile. Try again."
    if status is not None:
        return "the hub refused it."
    return f"the hub cannot be reached from here. {by_hand}"

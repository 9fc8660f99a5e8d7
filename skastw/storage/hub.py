"""The Hugging Face Hub on top of the folder: fetch the six files, or push them.

``huggingface_hub`` does the work: the cache, the tokens and the retries are its own. It is imported when it is needed,
and whatever it raises, on top of whichever HTTP library, becomes one :class:`~skastw.errors.HubError` that says what
happened and what to do. A token is handed on and neither kept nor shown.
"""

from __future__ import annotations

import hashlib
import os
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from skastw.artifact.folder import CONFIG, FILES, read_files
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, HubError

__all__ = ["fetch", "mend", "push", "read"]

T = TypeVar("T")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile("[0-9a-f]{40}")
_TOKEN = re.compile("[!-~]+")
#: How often a file is begun whose transfer breaks off.
_ATTEMPTS = 3
#: Repositories and revisions whose moving was pointed out before.
_TOLD: set[tuple[str, str]] = set()

_LOG_IN = "log in ('hf auth login'), set HF_TOKEN or pass token="


def fetch(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the local folder of a model, downloading its six files where needed.

    Without the Hub (``HF_HUB_OFFLINE=1``, or no network) the copy of an earlier download is returned.

    Parameters
    ----------
    model : path or str
        A folder, or a repository of the Hub such as ``"user/digits"``. A folder of that name wins.
    revision : str, optional
        Branch, tag or commit of the repository; only a full commit hash names the same bytes for ever.
    token : str, optional
        Access token for private repositories; by default ``HF_TOKEN``, or the one that ``hf auth login`` stored.
    cache_dir : path, optional
        Where downloads are kept; by default the Hub's own cache.

    Returns
    -------
    Path

    Raises
    ------
    ArtifactError
        If ``model`` is neither a folder nor the name of a repository.
    HubError
        If the repository cannot be read.

    Warns
    -----
    UserWarning
        Once for each repository and revision that may change, with the commit that it is now.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ArtifactError(f"Got revision={revision!r} for the local folder {str(model)!r}, expected None.")
        return folder
    if not isinstance(model, str) or not _REPOSITORY.fullmatch(model):
        raise ArtifactError(f"Got model {str(model)!r}, expected an existing folder or a repository 'user/name'.")

    # The first file tells the commit; the others are those of the same commit, whatever is pushed meanwhile.
    folder = _download(model, CONFIG, revision, token, cache_dir).parent
    for name in FILES:
        if name != CONFIG:
            _download(model, name, folder.name, token, cache_dir)
    _point_out_that_it_moves(model, revision, folder.name)
    return folder


def read(
    model: str | os.PathLike[str],
    reader: Callable[[Path], T],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> T:
    """Fetch a model and read it; a damaged download is mended and read again.

    Parameters
    ----------
    model, revision, token, cache_dir
        As :func:`fetch` takes them.
    reader : callable
        Takes the folder and returns what it holds, or raises ``ArtifactError``.

    Returns
    -------
    what ``reader`` returns

    Raises
    ------
    ArtifactError
        If the folder cannot be read, and is what the Hub has, or no download.
    HubError
        If the repository cannot be read.
    """
    folder = fetch(model, revision=revision, token=token, cache_dir=cache_dir)
    try:
        return reader(folder)
    except ArtifactError as error:
        if not mend(folder, model, token=token, because=error):
            raise
    return reader(folder)


def mend(folder: Path, model: str | os.PathLike[str], *, token: str | None = None, because: Exception) -> bool:
    """Fetch those files of a download again that are not what the Hub has.

    Parameters
    ----------
    folder : Path
        What :func:`fetch` returned.
    model : path or str
        What it was asked for.
    token : str, optional
    because : Exception
        What is wrong with the folder.

    Returns
    -------
    bool
        Whether there were any; False for a folder that is no download.

    Raises
    ------
    ArtifactError
        If the Hub cannot be asked; ``because`` then stands, with what to do about it.
    HubError
        If the files cannot be fetched, or are wrong again.
    """
    if folder == Path(model):
        return False
    repo, commit, cache = str(model), folder.name, folder.parents[2]
    try:
        hashes = {name: _hash_on_the_hub(repo, name, commit, token) for name in FILES}
    except HubError as error:
        raise ArtifactError(
            f"{because} This is the copy of {repo!r} in {str(folder)!r}, and whether that is damaged cannot be asked "
            f"now; once it can, the same call fetches damaged files again. {error}"
        ) from because
    damaged = [name for name in FILES if not _is_intact(folder / name, hashes[name])]
    for name in damaged:
        (folder / name).unlink(missing_ok=True)  # where there are no links, a forced download leaves it in place
        _download(repo, name, commit, token, cache, force=True)
    still = [name for name in damaged if _is_intact(folder / name, hashes[name]) is False]
    if still:
        raise HubError(
            f"Cannot fetch {repo!r} at commit {commit} from the Hugging Face Hub: {', '.join(still)} arrived with "
            "wrong bytes, twice. Something on the way (a proxy, a mirror, a failing disk) changes them. The same call "
            f"fetches them again, best from another network; the damaged copy is in {str(folder)!r}."
        ) from because
    return bool(damaged)


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload skastw model",
) -> str:
    """Upload the six files of a folder to a repository of the Hub, in one commit, creating it where needed.

    Parameters
    ----------
    folder : path
    repo_id : str
        ``"user/name"``.
    private : bool, optional
        Visibility of a new repository; None is the account's default. With True, a public repository is refused.
    token : str, optional
        Access token with write permission; by default ``HF_TOKEN``, or the one that ``hf auth login`` stored.
    commit_message : str

    Returns
    -------
    str
        Address of the commit; its last part is the hash that ``from_pretrained(..., revision=...)`` takes.

    Raises
    ------
    ArtifactError
        If a file is missing or cannot be read.
    HubError
        If the repository cannot be written.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    contents = read_files(folder)  # now, so that a save meanwhile cannot mix two models
    task = f"Cannot push to {repo_id!r} on the Hugging Face Hub"
    _check_token(token, task)
    api = HfApi(token=token)
    try:
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        public = private and not api.model_info(repo, timeout=10).private
        if not public:
            files = [CommitOperationAdd(name, content) for name, content in contents.items()]
            # Not upload_folder, which may make several commits: a reader never sees half a model.
            return str(api.create_commit(repo, files, commit_message=commit_message).commit_url)
    except Exception as error:
        raise _hub_error(error, task, repo_id, token, writing=True) from _shown(error, token)
    raise HubError(
        f"{task}: got private=True, and it exists and is public. Make it private in its settings, choose another name "
        "or pass private=None; nothing was uploaded."
    )


def _download(
    repo: str,
    name: str,
    revision: str | None,
    token: str | None,
    cache_dir: str | os.PathLike[str] | None,
    *,
    force: bool = False,
) -> Path:
    """Return the local copy of a file of a repository."""
    from huggingface_hub import hf_hub_download

    at = f" at revision {revision!r}" if revision else ""
    task = f"Cannot fetch {repo!r}{at} from the Hugging Face Hub"
    _check_token(token, task)
    for attempt in range(_ATTEMPTS):
        try:
            # File by file, because all of its requests have a time limit, and those for a list of files have none.
            found = hf_hub_download(
                repo,
                name,
                revision=revision,
                token=token,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                force_download=force,
            )
            return Path(found)
        except Exception as error:
            if attempt + 1 < _ATTEMPTS and _names(error) & _BROKEN:
                continue
            raise _hub_error(error, task, repo, token, name=name, revision=revision) from _shown(error, token)
    raise AssertionError("unreachable")


def _hash_on_the_hub(repo: str, name: str, commit: str, token: str | None) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        return get_hf_file_metadata(hf_hub_url(repo, name, revision=commit), token=token).etag
    except Exception as error:
        task = f"Cannot ask the Hugging Face Hub about {repo!r}"
        raise _hub_error(error, task, repo, token, name=name, revision=commit) from _shown(error, token)


def _is_intact(path: Path, expected: str | None) -> bool | None:
    """Return whether a file has the hash that the Hub gave: SHA-256 of large files, Git's own of others, else None."""
    content = path.read_bytes()
    if expected and re.fullmatch("[0-9a-f]{64}", expected):
        return hashlib.sha256(content).hexdigest() == expected
    if expected and _COMMIT.fullmatch(expected):
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == expected
    return None


def _point_out_that_it_moves(repo: str, revision: str | None, commit: str) -> None:
    """Warn that a branch or a tag may be another model tomorrow; its name alone does not make a result repeatable."""
    if (revision and _COMMIT.fullmatch(revision)) or (repo, revision or "main") in _TOLD:
        return
    _TOLD.add((repo, revision or "main"))
    warn_user(
        f"{repo!r} was loaded from {revision or 'main'!r}, which may be another model tomorrow. "
        f"To load this one again, pin its commit: revision={commit!r}."
    )


# What an error is, by the names of its classes and of its causes' classes: huggingface_hub has been built on requests,
# on httpx and on httpx2, and none of them is ours to import.
_BROKEN = {"ReadError", "WriteError", "RemoteProtocolError", "ChunkedEncodingError", "ConnectionResetError"}
_SLOW = {"TimeoutException", "Timeout", "TimeoutError"}
_AWAY = {"ConnectError", "ConnectionError", "ProxyError", "NetworkError"}
_STRANGE = {"FileMetadataError", "JSONDecodeError"}
_UNSENDABLE = {"LocalProtocolError", "InvalidHeader", "UnicodeEncodeError"}


def _hub_error(
    error: Exception,
    task: str,
    repo: str,
    token: str | None,
    *,
    name: str = "",
    revision: str | None = None,
    writing: bool = False,
) -> HubError:
    """Return the one clear error for whatever ``huggingface_hub`` raised."""
    from huggingface_hub.constants import ENDPOINT

    names = _names(error)
    response = next((e.response for e in _causes(error) if getattr(e, "response", None) is not None), None)
    if "OfflineModeIsEnabled" in names:
        what = "HF_HUB_OFFLINE is set"
        what += "" if writing else f", and there is no {name} of it in the cache"
        what += ". Unset it, or set it to 0, where there is a network."
    elif response is not None:
        what = _refusal(response, ENDPOINT, repo, name, revision, writing)
    elif names & _UNSENDABLE:
        what = "the token cannot be sent: it holds a line break or a character that tokens do not have. Set it again."
    elif names & _SLOW:
        what = "it did not answer in time. Try again later"
        what += "." if writing else "; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT give it more seconds."
    elif names & _BROKEN or "Consistency check failed" in str(error):
        what = "the connection broke off. Try again"
        what += "; nothing was committed." if writing else "; files that arrived are not fetched twice."
    elif names & _AWAY:
        what = f"{ENDPOINT} cannot be reached ({_text(list(_causes(error))[-1], token)})"
        what += "" if writing else f", and there is no {name} of it in the cache"
        what += ". Check the network, and HTTPS_PROXY and HF_ENDPOINT where they are set."
    elif names & _STRANGE:
        what = f"what answers at {ENDPOINT} is not a Hub. Check HF_ENDPOINT, and for a log-in page of the network."
    elif "HFValidationError" in names:
        what = f"the Hub has no such names ({_text(error, token)}). Expected 'user/name'."
    elif isinstance(error, OSError) and error.errno is not None:
        what = f"{_text(error, token)}. Make room or give access"
        what += "." if writing else ", or choose another cache_dir=."
    else:
        what = f"{type(error).__name__}: {_text(error, token)}."
    return HubError(f"{task}: {what}{'' if writing else f' (There is no folder {repo!r} here, either.)'}")


def _refusal(response: Any, endpoint: str, repo: str, name: str, revision: str | None, writing: bool) -> str:
    """Return what an answer of the Hub means, by its status and by the code that the Hub adds."""
    status, code = response.status_code, response.headers.get("X-Error-Code")
    said = " ".join(str(response.headers.get("X-Error-Message") or "").split())[:200].rstrip(".")
    why = f" (HTTP {status}{': ' if said else ''}{said})"
    signed = "authorization" in getattr(getattr(response, "request", None), "headers", {})
    if status in (401, 403, 404) and not str(getattr(response, "url", endpoint)).startswith(endpoint):
        return f"the storage that the Hub names does not give {name or 'access'}{why}. Try again later."
    if code == "GatedRepo":
        who = "the account of the token has no access" if signed else "no token was sent"
        return (
            f"the repository is gated, and {who}{why}. Accept its conditions at {endpoint}/{repo}, then {_LOG_IN} with "
            "a token of the same account."
        )
    if code == "RevisionNotFound":
        return (
            f"it has no revision {revision or 'main'!r}{why}. Expected a branch, a tag or a full commit hash of 40 "
            f"characters, as in {endpoint}/{repo}/commits/main."
        )
    if code == "EntryNotFound":
        return (
            f"it has no {name}{why}, so push_to_hub did not write it, or somebody changed it. Check the name and the "
            "revision, or push the model again."
        )
    if status == 401 and signed:
        return f"the token is not accepted{why}; it is mistyped, revoked or expired. Correct it or {_LOG_IN}."
    if status == 401 and writing:
        return f"no token was sent{why}. To push, {_LOG_IN} with a token that may write."
    if status == 401 or code == "RepoNotFound" or (status == 404 and code is None):
        who = "the token may not read it" if signed else "no token was sent"
        return f"it does not exist, or it is private and {who}{why}. Check the name; for a private one, {_LOG_IN}."
    if status == 403:
        right = "write" if writing else "read"
        who = f"the token may not {right} it" if signed else "access is refused, and no token was sent"
        return f"{who}{why}. To {right} it, {_LOG_IN} with a token that has the right."
    if status == 429:
        wait = str(response.headers.get("Retry-After") or "")
        wait = f"{wait} seconds" if wait.isdigit() else "some minutes"
        return f"too many requests{why}. Wait {wait} and try again; with a token the Hub allows more of them."
    if status >= 500:
        return f"the Hub has a fault of its own{why}. Try again later; https://status.huggingface.co tells how it is."
    return f"the Hub refused{why}."


def _causes(error: BaseException | None) -> Iterator[Any]:
    """Yield an error, what it was raised from, what that was raised from, ..."""
    while error is not None:
        yield error
        error = error.__cause__


def _names(error: Exception) -> set[str]:
    return {cls.__name__ for cause in _causes(error) for cls in type(cause).__mro__}


def _text(error: Exception, token: str | None) -> str:
    """Return the text of an error on one line, without tokens and without what signs an address."""
    text = re.sub(r"hf_\w+|(?<=\?)[^\s'\")]+|(?<=Bearer )[^\s'\"]+", "...", " ".join(str(error).split()))
    for secret in (token, os.environ.get("HF_TOKEN")):
        text = text.replace(secret, "...") if secret else text
    return text[:300].rstrip(".")


def _shown(error: Exception, token: str | None) -> Exception | None:
    """Return an error if a traceback may show it as the cause, which means that it holds no token."""
    text = "".join(traceback.format_exception(error))
    secrets = ["Bearer ", *filter(None, (token, os.environ.get("HF_TOKEN")))]
    return None if any(secret in text for secret in secrets) else error


def _check_token(token: str | None, task: str) -> None:
    if isinstance(token, str) and not _TOKEN.fullmatch(token):
        raise HubError(f"{task}: token= is not a token, because it is empty or holds a space or a line break.")

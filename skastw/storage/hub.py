"""Files of a repository on the Hugging Face Hub: fetched into its cache, repaired there, and pushed in one commit.

``huggingface_hub`` does the work: the cache, the tokens and the retries are its own. It is imported inside the
functions that need it. Its errors, and those of its HTTP library, become a :class:`~skastw.errors.HubError` that says
what happened and what to do. A token is passed on; it is neither stored nor shown.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skastw.core.text import looked_in
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, HubError, plain

T = TypeVar("T")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile("[0-9a-f]{40}")
_TOKEN = re.compile("[!-~]+")
#: How often a file is requested if the transfer breaks off.
_ATTEMPTS = 3
#: Repositories and revisions for which a warning was issued.
_WARNED: set[tuple[str, str]] = set()
#: Errors of a connection that breaks off. HTTP libraries pass on those of the system; ``requests`` also passes on those
#: of ``http.client``. The error of ``httpx`` and ``httpx2`` has no base class that huggingface_hub exports: it is the
#: only one that is recognised by its name.
_BROKEN = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.HTTPException)
_BROKEN_BY_NAME = "RemoteProtocolError"

_LOG_IN = "log in ('hf auth login'), set HF_TOKEN or pass token="


def fetch(
    model: str | os.PathLike[str],
    names: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the local folder of a model, downloading its files if needed.

    Without the Hub (``HF_HUB_OFFLINE=1``, or no network), the files of an earlier download are used.

    Parameters
    ----------
    model : path or str
        A folder, or a repository on the Hub such as ``"user/digits"``. An existing folder of that name has priority.
    names : sequence of str
        Names of the files. The commit at which the first one is found is also used for the others.
    optional : sequence of str
        Names of files that a repository may lack.
    revision : str, optional
        Branch, tag or commit of the repository; only a full commit hash always names the same bytes.
    token : str, optional
        Access token for private repositories; by default ``HF_TOKEN``, or the one that ``hf auth login`` stored.
    cache_dir : path, optional
        Folder for downloads; by default the Hub's own cache.

    Returns
    -------
    Path

    Raises
    ------
    ArtifactError
        If ``model`` is neither a folder nor the name of a repository, or if it has the form of such a name but its
        first part is a local folder and ``revision`` is None.
    HubError
        If the repository cannot be read.

    Warns
    -----
    UserWarning
        Once for each repository and revision that may change, with its present commit.

    Examples
    --------
    >>> import tempfile
    >>> from skastw.storage.hub import fetch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     str(fetch(folder, ["config.json"])) == folder
    True
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ArtifactError(f"Got revision={plain(revision)!r} for the local folder {str(model)!r}, expected None.")
        return folder
    if not isinstance(model, str) or not _REPOSITORY.fullmatch(model):
        problem = "which is a file" if folder.is_file() else f"which does not exist{looked_in(folder)}"
        raise ArtifactError(
            f"Got model {str(model)!r}, {problem}, expected an existing folder or a repository 'user/name'."
        )
    if revision is None and folder.parent.is_dir():
        raise ArtifactError(
            f"There is no model folder {model!r}{looked_in(folder)}. To load a repository of this name from the Hub, "
            "pass its revision, such as revision='main'."
        )

    # All files come from the commit of the first, even if another commit is pushed meanwhile.
    folder = _download(model, names[0], revision, token, cache_dir).parent
    for name in names[1:]:
        _download(model, name, folder.name, token, cache_dir)
    for name in optional:
        _download_if_there(model, name, folder.name, token, cache_dir)
    _warn_if_moving(model, revision, folder.name)
    return folder


def read(
    model: str | os.PathLike[str],
    names: Sequence[str],
    reader: Callable[[Path], T],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> T:
    """Fetch a model and read it; if the download is damaged, repair it and read it again.

    Parameters
    ----------
    model, names, revision, token, cache_dir
        As for :func:`fetch`.
    reader : callable
        Takes the folder, and returns the model or raises ``ArtifactError``.

    Returns
    -------
    object
        The result of ``reader``.

    Raises
    ------
    ArtifactError
        If the reader raised it, and the folder is local or has the same files as the Hub.
    HubError
        If the repository cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from skastw.storage.hub import read
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read(folder, ["config.json"], lambda path: path.is_dir())
    True
    """
    folder = fetch(model, names, revision=revision, token=token, cache_dir=cache_dir)
    try:
        return reader(folder)
    except ArtifactError as error:
        if not repair(folder, model, names, token=token, because=error):
            raise
    return reader(folder)


def repair(
    folder: Path, model: str | os.PathLike[str], names: Sequence[str], *, token: str | None = None, because: Exception
) -> bool:
    """Download those files again that differ from the ones on the Hub.

    Parameters
    ----------
    folder : Path
        Result of :func:`fetch`.
    model, names, token
        As for :func:`fetch`.
    because : Exception
        The error that the folder caused.

    Returns
    -------
    bool
        True if a file was downloaded again; False if none differs, or if ``model`` is a local folder.

    Raises
    ------
    ArtifactError
        If the Hub cannot be reached. The message is that of ``because``, and says that a later call repairs the files.
    HubError
        If the files cannot be downloaded, or differ again.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skastw.storage.hub import repair
    >>> repair(Path("exports/owls"), "exports/owls", ["config.json"], because=ValueError("damaged"))
    False
    """
    if folder == Path(model):
        return False

    repo, commit, cache = str(model), folder.name, folder.parents[2]
    try:
        hashes = {name: _hash_on_the_hub(repo, name, commit, token) for name in names}
    except HubError as error:
        raise ArtifactError(
            f"{because} The folder {str(folder)!r} is a download of {repo!r}, and may be damaged. When the Hub can be "
            f"reached, the same call downloads damaged files again. {error}"
        ) from because

    damaged = [name for name in names if _is_intact(folder / name, hashes[name]) is not True]
    for name in damaged:
        (folder / name).unlink(missing_ok=True)  # on a system without links, a forced download does not replace it
        _download(repo, name, commit, token, cache, force=True)

    still_damaged = [name for name in damaged if _is_intact(folder / name, hashes[name]) is False]
    if still_damaged:
        raise HubError(
            f"Cannot fetch {repo!r} at commit {commit} from the Hugging Face Hub: {', '.join(still_damaged)} arrived "
            "with wrong bytes, twice. Something on the way (a proxy, a mirror, a failing disk) changes them. The same "
            f"call downloads them again, best from another network; the damaged files are in {str(folder)!r}."
        ) from because
    return bool(damaged)


def push(
    contents: Mapping[str, bytes],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload skastw model",
) -> str:
    """Upload files to a repository on the Hub in one commit, creating the repository if needed.

    Parameters
    ----------
    contents : mapping of str to bytes
        Content of each file, by name.
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
    HubError
        If the repository cannot be written.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    task = f"Cannot push to {repo_id!r} on the Hugging Face Hub"
    with _clear_errors(task, repo_id, token, writing=True):
        api = HfApi(token=token)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repo, timeout=10).private:
            raise HubError(
                f"{task}: got private=True, but the repository exists and is public. Make it private in its settings, "
                "choose another name or pass private=None; nothing was uploaded."
            )
        # upload_folder may make several commits, so that a reader could see half a model
        files = [CommitOperationAdd(name, content) for name, content in contents.items()]
        return str(api.create_commit(repo, files, commit_message=commit_message).commit_url)


def _download(
    repo: str,
    name: str,
    revision: str | None,
    token: str | None,
    cache_dir: str | os.PathLike[str] | None,
    *,
    force: bool = False,
) -> Path:
    """Return the local path of a file of a repository, downloading it if needed."""
    from huggingface_hub import hf_hub_download

    at = f" at revision {revision!r}" if revision else ""
    task = f"Cannot fetch {repo!r}{at} from the Hugging Face Hub"
    with _clear_errors(task, repo, token, name=name, revision=revision):
        attempts_left = _ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                # One file at a time: requests for files have a time limit, and the one for a list of files has none.
                path = hf_hub_download(
                    repo,
                    name,
                    revision=revision,
                    token=token,
                    cache_dir=None if cache_dir is None else Path(cache_dir),
                    force_download=force,
                )
                return Path(path)
            except Exception as error:
                if not attempts_left or not _broke_off(_causes(error)):
                    raise


def _download_if_there(
    repo: str, name: str, commit: str, token: str | None, cache_dir: str | os.PathLike[str] | None
) -> None:
    """Download a file, unless the commit does not have it, which is noted in the cache."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    def is_missing() -> bool:
        cache = None if cache_dir is None else Path(cache_dir)
        return try_to_load_from_cache(repo, name, cache, commit) is _CACHED_NO_EXIST

    if is_missing():
        return
    try:
        _download(repo, name, commit, token, cache_dir)
    except HubError:
        if not is_missing():
            raise


def _hash_on_the_hub(repo: str, name: str, commit: str, token: str | None) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _clear_errors(f"Cannot ask the Hugging Face Hub about {repo!r}", repo, token, name=name, revision=commit):
        return get_hf_file_metadata(hf_hub_url(repo, name, revision=commit), token=token).etag


def _is_intact(path: Path, expected: str | None) -> bool | None:
    """Return whether a file has the hash that the Hub gave, or None if that is not a hash.

    The Hub gives the SHA-256 of large files, and the hash that Git computes of other files.
    """
    content = path.read_bytes()
    if expected and re.fullmatch("[0-9a-f]{64}", expected):
        return hashlib.sha256(content).hexdigest() == expected
    if expected and _COMMIT.fullmatch(expected):
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == expected
    return None


def _warn_if_moving(repo: str, revision: str | None, commit: str) -> None:
    """Warn that a branch or a tag may name another commit tomorrow, so that the result cannot be repeated."""
    if (revision and _COMMIT.fullmatch(revision)) or (repo, revision or "main") in _WARNED:
        return
    _WARNED.add((repo, revision or "main"))
    warn_user(
        f"{repo!r} was loaded from {revision or 'main'!r}, which may be another model tomorrow. "
        f"To load this one again, pin its commit: revision={commit!r}."
    )


# ------------------------------------------------------------------ errors


@contextlib.contextmanager
def _clear_errors(
    task: str, repo: str, token: str | None, *, name: str = "", revision: str | None = None, writing: bool = False
) -> Iterator[None]:
    """Raise every error of ``huggingface_hub`` as one HubError that shows no token."""
    from huggingface_hub.utils import build_hf_headers

    try:
        sent = build_hf_headers(token=token).get("authorization")
        if sent is not None and not _TOKEN.fullmatch(sent.removeprefix("Bearer ")):
            which = "token= is" if isinstance(token, str) else "the token in HF_TOKEN or of 'hf auth login' is"
            raise HubError(
                f"{task}: {which} not a token, because it is empty or holds a space, a line break or a character that "
                "tokens do not have. Set it again."
            )
        yield
    except HubError:
        raise
    except Exception as error:
        causes = _causes(error)
        what = _explain(causes, repo, token, name, revision, writing=writing)
        hint = "" if writing else f" There is no folder {repo!r} here, either{looked_in(repo)}."

        # a traceback may show the error as the cause only if no part of it has the token
        shown = "".join(traceback.format_exception(error))
        secrets = ("Bearer ", token, os.environ.get("HF_TOKEN"))
        secret = any(text in shown for text in secrets if text)
        raise HubError(f"{task}: {what}{hint}") from (None if secret else error)


def _explain(
    causes: Sequence[Any], repo: str, token: str | None, name: str, revision: str | None, *, writing: bool
) -> str:
    """Return in words what happened and what to do, for an error of ``huggingface_hub`` and its causes."""
    from huggingface_hub import errors
    from huggingface_hub.constants import ENDPOINT

    error = causes[0]
    refusal = next((cause for cause in causes if getattr(cause, "response", None) is not None), None)
    if refusal is not None:
        return _explain_refusal(refusal, ENDPOINT, repo, name, revision, writing=writing)

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    not_cached = "" if writing else f", and {name} is not in the cache"
    rows = [
        (
            caused_by(errors.OfflineModeIsEnabled),
            f"HF_HUB_OFFLINE is set{not_cached}. Unset it, or set it to 0, if the computer has a network.",
        ),
        (
            caused_by(errors.FileMetadataError, json.JSONDecodeError),
            f"the server at {ENDPOINT} is not a Hub. Check HF_ENDPOINT, and if the network shows a log-in page.",
        ),
        (
            caused_by(errors.HFValidationError),
            f"the Hub does not accept the name ({_text(error, token)}). Expected 'user/name'.",
        ),
        (
            caused_by(TimeoutError),
            "the Hub did not answer in time. Try again later"
            + ("." if writing else "; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT set longer limits in seconds."),
        ),
        (
            _broke_off(causes),
            "the connection broke off. Try again"
            + ("; nothing was committed." if writing else "; files that have arrived are not downloaded twice."),
        ),
        (
            isinstance(error, OSError) and error.errno is not None,
            f"{_text(error, token)}. Free disk space or change permissions"
            + ("." if writing else ", or choose another cache_dir=."),
        ),
        (
            caused_by(errors.HTTPError, OSError),
            f"{ENDPOINT} cannot be reached ({_text(causes[-1], token)}){not_cached}. Check the network, and "
            "HTTPS_PROXY and HF_ENDPOINT if they are set.",
        ),
        (True, f"{type(error).__name__}: {_text(error, token)}."),
    ]
    return next(text for applies, text in rows if applies)


def _explain_refusal(refusal: Any, endpoint: str, repo: str, name: str, revision: str | None, *, writing: bool) -> str:
    """Return in words why the Hub refused a request and what to do, by its status and the class of the error."""
    from huggingface_hub import errors

    response = refusal.response
    status, headers = response.status_code, response.headers
    message = " ".join(str(headers.get("X-Error-Message") or "").split())[:200].rstrip(".")
    why = f" (HTTP {status}{': ' if message else ''}{message})"
    signed = "authorization" in getattr(getattr(response, "request", None), "headers", {})
    elsewhere = not str(getattr(response, "url", endpoint)).startswith(endpoint)
    right = "write" if writing else "read"
    seconds = str(headers.get("Retry-After") or "")

    rows = [
        (
            elsewhere and status in (401, 403, 404),
            f"the storage server of the Hub refuses {name or 'access'}{why}. Try again later.",
        ),
        (
            isinstance(refusal, errors.GatedRepoError),
            f"the repository is gated, and "
            f"{'the account of the token has no access' if signed else 'no token was sent'}{why}. Accept its "
            f"conditions at {endpoint}/{repo}, then {_LOG_IN} with a token of the same account.",
        ),
        (
            isinstance(refusal, errors.RevisionNotFoundError),
            f"it has no revision {revision or 'main'!r}{why}. Expected a branch, a tag or a full commit hash of 40 "
            f"characters, as in {endpoint}/{repo}/commits/main.",
        ),
        (
            isinstance(refusal, errors.EntryNotFoundError),
            f"it has no {name}{why}, so it is not the expected kind of model, or somebody changed it. Check the name "
            "and the revision, or push the model again if it is yours.",
        ),
        (
            status == 401 and signed,
            f"the token is not accepted{why}; it is mistyped, revoked or expired. Correct it or {_LOG_IN}.",
        ),
        (
            status == 401 and writing,
            f"no token was sent{why}. To push, {_LOG_IN} with a token that may write.",
        ),
        (
            status in (401, 404) or isinstance(refusal, errors.RepositoryNotFoundError),
            f"it does not exist, or it is private and "
            f"{'the token may not read it' if signed else 'no token was sent'}{why}. Check the name; for a private "
            f"repository, {_LOG_IN}.",
        ),
        (
            status == 403,
            f"{f'the token may not {right} it' if signed else 'access is refused, and no token was sent'}{why}. To "
            f"{right} it, {_LOG_IN} with a token that has the right.",
        ),
        (
            status == 429,
            f"too many requests{why}. Wait {f'{seconds} seconds' if seconds.isdigit() else 'some minutes'} and try "
            "again; with a token the Hub allows more of them.",
        ),
        (
            status >= 500,
            f"the Hub has an error of its own{why}. Try again later; https://status.huggingface.co shows its state.",
        ),
        (True, f"the Hub refused{why}."),
    ]
    return next(text for applies, text in rows if applies)


def _broke_off(causes: Sequence[BaseException]) -> bool:
    """Return whether an error means that a transfer began and broke off, so that a new attempt may succeed."""
    incomplete = "Consistency check failed" in str(causes[0])
    return incomplete or any(isinstance(cause, _BROKEN) or type(cause).__name__ == _BROKEN_BY_NAME for cause in causes)


def _causes(error: BaseException) -> list[Any]:
    """Return an error and the errors that caused it; HTTP libraries pass them as causes or as arguments."""
    errors = [error]
    for current in errors:  # grows in the loop
        linked = [current.__cause__, *current.args]
        errors += [item for item in linked if isinstance(item, BaseException) and item not in errors]
    return errors


def _text(error: BaseException, token: str | None) -> str:
    """Return the text of an error on one line, without tokens and without the signatures of addresses."""
    text = re.sub(r"hf_\w+|(?<=\?)[^\s'\")]+|(?<=Bearer )[^\s'\"]+", "...", " ".join(str(error).split()))
    for secret in filter(None, (token, os.environ.get("HF_TOKEN"))):
        text = text.replace(secret, "...")
    return text[:300].rstrip(".")

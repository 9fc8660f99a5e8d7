"""The Hugging Face Hub on top of the folder: fetch the six files, or push them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from skastw.artifact import FILES
from skastw.errors import ArtifactError, HubError

__all__ = ["fetch", "push"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetch(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Return the local folder of a model, downloading its six files where needed.

    Parameters
    ----------
    model : path or str
        A folder, or a repository of the Hub such as ``"user/digits"``. A folder of that name wins.
    revision : str, optional
        Branch, tag or commit of the repository; only a full commit hash names the same bytes for ever.
    token : str, optional
        Access token for private repositories; by default the one that ``hf auth login`` stored.
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
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise ArtifactError(f"Got revision={revision!r} for the local folder {str(model)!r}, expected None.")
        return folder
    if not isinstance(model, str) or not _REPOSITORY.fullmatch(model):
        raise ArtifactError(f"Got model {str(model)!r}, expected an existing folder or a repository 'user/name'.")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            model,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            allow_patterns=list(FILES),
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        reason = " ".join(str(error).split())
        raise HubError(
            f"Cannot fetch {model!r}{at} from the Hugging Face Hub ({type(error).__name__}: {reason[:300]}); "
            "check the name, the network, and your access ('hf auth login' for private repositories)."
        ) from error
    return Path(found)


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload skastw model",
) -> str:
    """Upload the six files of a folder to a repository of the Hub, creating it where needed.

    Parameters
    ----------
    folder : path
    repo_id : str
        ``"user/name"``.
    private : bool, optional
        Visibility of a new repository; None is the account's default.
    token : str, optional
        Access token with write permission; by default the one that ``hf auth login`` stored.
    commit_message : str

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    HubError
        If the repository cannot be written.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=Path(folder), allow_patterns=list(FILES), commit_message=commit_message
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())
        raise HubError(
            f"Cannot push to {repo_id!r} ({type(error).__name__}: {reason[:300]}); check the name, the network, "
            "and that your token may write ('hf auth login')."
        ) from error
    return str(commit.commit_url)
